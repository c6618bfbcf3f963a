"""Conversations cut into segments of five turns, one speech material each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from persllm.ingest.passages import cut
from persllm.ingest.text import words

TURNS = 5
FULL = 250
"""Words after which a segment takes no further turn, and at which a single turn is cut."""
LEAST = 5
"""Words of a segment; shorter ones tell nothing and are left out."""
UNKNOWN = "Someone"
"""How a speaker whom nothing tells is called in a segment."""


@dataclass(frozen=True)
class Line:
    """What one speaker says in one go, with the number of the paragraph (or line) it begins at and ends at."""

    speaker: str | None
    text: str
    first: int
    last: int


@dataclass(frozen=True)
class Segment:
    """A piece of a conversation: a line ``Name: words`` for each turn, from its paragraph (or line) to its last one.

    ``words`` counts what is said, without the names.
    """

    text: str
    first: int
    last: int
    words: int


def joined(lines: Iterable[Line]) -> list[Line]:
    """Join what one speaker says in a row; of unknown speakers nothing is joined."""
    found: list[Line] = []
    for line in lines:
        if found and line.speaker is not None and found[-1].speaker == line.speaker:
            before = found[-1]
            found[-1] = Line(line.speaker, f"{before.text} {line.text}", before.first, line.last)
        else:
            found.append(line)
    return found


def segments(lines: Sequence[Line], persona: str) -> list[Segment]:
    """Return the segments of a conversation in which the persona speaks.

    Each is cut to at most `TURNS` turns and about `FULL` words; a turn of more than that is cut at sentence ends.
    """
    parts: list[list[Line]] = []
    cuts = ((turn, text) for turn in joined(lines) for text in cut(turn.text, FULL))
    for turn in (Line(whole.speaker, text, whole.first, whole.last) for whole, text in cuts):
        if not parts or len(parts[-1]) == TURNS or sum(words(line.text) for line in parts[-1]) >= FULL:
            parts.append([])
        parts[-1].append(turn)
    found = []
    for part in parts:
        count = sum(words(line.text) for line in part)
        if any(line.speaker == persona for line in part) and count >= LEAST:
            text = "\n".join(f"{line.speaker or UNKNOWN}: {line.text}" for line in joined(part))
            found.append(Segment(text, part[0].first, part[-1].last, count))
    return found
