"""Conversations: which quotations of a chapter belong together, and what stands outside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from persllm.ingest.cast import Person
from persllm.ingest.quotes import Turn
from persllm.ingest.text import Paragraph, words

PAUSE = 60
"""Words of narration that may stand between two quotations of one conversation."""


@dataclass
class Scene:
    """A conversation: its turns, whether narration stands apart each from the one before, and who may speak."""

    turns: list[Turn]
    apart: list[bool] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)


def narration(paragraphs: Sequence[Paragraph], turns: Sequence[Turn]) -> list[str]:
    """Return each paragraph's narration: its text less the quotations."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for turn in turns:
        for index, start, end in turn.spans:
            spans.setdefault(index, []).append((start, end))
    outside = []
    for index, paragraph in enumerate(paragraphs):
        at, kept = 0, ""
        for start, end in sorted(spans.get(index, ())):
            kept += paragraph.text[at:start] + " "
            at = end
        outside.append(kept + paragraph.text[at:])
    return outside


def scenes(paragraphs: Sequence[Paragraph], turns: Sequence[Turn], narrators: Sequence[Person | None]) -> list[Scene]:
    """Cut a chapter's turns into conversations.

    Within one, no more than `PAUSE` words of narration stand between two turns, and the narrator does not change.
    """
    outside = [words(text) for text in narration(paragraphs, turns)]
    found: list[Scene] = []
    for before, turn in zip([None, *turns], turns, strict=False):
        between = sum(outside[before.last + 1 : turn.first]) if before else 0
        lead = words(turn.before)
        if before is None or between + lead > PAUSE or narrators[before.last] is not narrators[turn.first]:
            found.append(Scene([]))
        found[-1].turns.append(turn)
        found[-1].apart.append(between > 0 or lead > 25)
    return found
