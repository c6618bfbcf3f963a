"""Paragraphs made into materials of a good length."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from persllm.ingest.text import Paragraph, sentences, words

SHORTEST, LONGEST = 30, 200
"""Words of a passage; one sentence longer than that stays whole."""
REACH = 3
"""Paragraphs of dialogue that may lie between two short ones which are merged."""


@dataclass(frozen=True)
class Passage:
    """A stretch of a chapter from its paragraph ``first`` to ``last`` (numbers from 1)."""

    first: int
    last: int
    text: str

    def source(self, title: str) -> str:
        """Return where it stands: ``Chapter 11, paragraph 3``."""
        where = f"paragraph {self.first}" if self.first == self.last else f"paragraphs {self.first}-{self.last}"
        return f"{title}, {where}" if title else where


def _cut(paragraph: Paragraph) -> list[Passage]:
    """Cut a long paragraph at sentence ends into parts of about the same length."""
    count = math.ceil(words(paragraph.text) / LONGEST)
    if count <= 1:
        return [Passage(paragraph.number, paragraph.number, paragraph.text)]
    goal = words(paragraph.text) / count
    parts: list[str] = [""]
    for sentence in sentences(paragraph.text):
        full = words(parts[-1]) + words(sentence) / 2 > goal or words(parts[-1]) + words(sentence) > LONGEST
        if parts[-1] and full:
            parts.append("")
        parts[-1] = f"{parts[-1]} {sentence}".strip()
    return [Passage(paragraph.number, paragraph.number, part) for part in parts]


def passages(paragraphs: Iterable[Paragraph]) -> list[Passage]:
    """Merge or cut one chapter's paragraphs to `SHORTEST` to `LONGEST` words, at sentence ends.

    A short one without a neighbour within `REACH` paragraphs to be merged with is left out.
    """
    found: list[Passage] = []
    for piece in (part for paragraph in paragraphs for part in _cut(paragraph)):
        last = found[-1] if found else None
        near = last is not None and piece.first - last.last <= REACH
        short = last is not None and min(words(last.text), words(piece.text)) < SHORTEST
        if last is not None and near and short and words(last.text) + words(piece.text) <= LONGEST:
            found[-1] = Passage(last.first, piece.last, f"{last.text} {piece.text}")
        else:
            found.append(piece)
    return [passage for passage in found if words(passage.text) >= SHORTEST]
