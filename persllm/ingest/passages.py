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

    @property
    def words(self) -> int:
        """How many words it has."""
        return words(self.text)


def cut(text: str, longest: int) -> list[str]:
    """Cut a text at sentence ends into parts of about the same length and at most ``longest`` words.

    One sentence that is longer stays whole.
    """
    count = math.ceil(words(text) / longest)
    if count <= 1:
        return [text]
    goal = words(text) / count
    parts: list[str] = [""]
    for sentence in sentences(text):
        full = words(parts[-1]) + words(sentence) / 2 > goal or words(parts[-1]) + words(sentence) > longest
        if parts[-1] and full:
            parts.append("")
        parts[-1] = f"{parts[-1]} {sentence}".strip()
    return parts


def passages(paragraphs: Iterable[Paragraph]) -> list[Passage]:
    """Merge or cut one chapter's paragraphs to `SHORTEST` to `LONGEST` words, at sentence ends.

    A short one without a neighbour within `REACH` paragraphs to be merged with stays short.
    """
    found: list[Passage] = []
    for piece in (Passage(p.number, p.number, part) for p in paragraphs for part in cut(p.text, LONGEST)):
        last = found[-1] if found else None
        near = last is not None and piece.first - last.last <= REACH
        short = last is not None and min(words(last.text), words(piece.text)) < SHORTEST
        if last is not None and near and short and words(last.text) + words(piece.text) <= LONGEST:
            found[-1] = Passage(last.first, piece.last, f"{last.text} {piece.text}")
        else:
            found.append(piece)
    return found
