"""Conversations cut into segments of five turns, one speech material each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from persllm.ingest.text import words

TURNS = 5
FULL = 250
"""Words after which a segment takes no further turn."""
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


def segments(lines: Sequence[Line], persona: str) -> list[Line]:
    """Return the segments of a conversation in which the persona speaks.

    Each is cut to at most `TURNS` turns and about `FULL` words; its text has a line ``Name: words`` for each.
    """
    parts: list[list[Line]] = []
    for turn in joined(lines):
        if not parts or len(parts[-1]) == TURNS or sum(words(line.text) for line in parts[-1]) >= FULL:
            parts.append([])
        parts[-1].append(turn)
    found = []
    for part in parts:
        if any(line.speaker == persona for line in part) and sum(words(line.text) for line in part) >= LEAST:
            text = "\n".join(f"{line.speaker or UNKNOWN}: {line.text}" for line in part)
            found.append(Line(persona, text, part[0].first, part[-1].last))
    return found
