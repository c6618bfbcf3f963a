"""What can be read off the words of a conversation: whose they are, how varied, how new. English words and patterns."""

from __future__ import annotations

import re

from persllm.transcripts import Turn

BREAKS = ("names_itself", "writes_lines", "repeats")
"""The ways in which a turn is the other's."""
WINDOW = 50
"""Words among which distinct ones are counted."""
RUN = 6
"""Words in a row that are another's when they were said before."""
_LETTERS = 4
"""Of a content word, at least."""
LEAST = 3
"""Content words of a turn whose novelty is measured."""


def words(text: str) -> list[str]:
    """Return a text's words in small letters."""
    return re.findall(r"\w+(?:['’]\w+)*", text.casefold())


def called(name: str) -> list[str]:
    """Return the words that a persona is called by."""
    return [word for word in re.findall(r"[\w-]+", name) if len(word) > 2 and word[0].isupper()]


def role_breaks(turn: Turn, earlier: list[Turn], other: str) -> set[str]:
    """Return in which of the ``BREAKS`` a turn is the other's.

    Args:
        turn: of one speaker; it has a response.
        earlier: of the same conversation, both speakers'.
        other: the other's name; none of one's own words may be in it.
    """
    text, found = turn.response or "", set[str]()
    own = {word.casefold() for word in called(turn.name)}
    names = "|".join(re.escape(word) for word in called(other) if word.casefold() not in own)
    if names:
        whole = rf"(?:[^\S\n]*(?:the|Mr\.?|Mrs\.?|Miss|Sir|{names})\b)*[^\S\n]*(?:{names})\b"
        if re.search(rf"\b(?:(?:I am|I['’]m|my name is|call me)\b|I,){whole}(?!['’]s)", text, re.IGNORECASE):
            found.add("names_itself")
        if re.search(rf"^\W*{whole}\W*:", text, re.IGNORECASE | re.MULTILINE):
            found.add("writes_lines")
    if _repeated(turn, earlier) >= 0.5:
        found.add("repeats")
    return found


def _runs(text: str) -> set[tuple[str, ...]]:
    of = words(text)
    return {tuple(of[start : start + RUN]) for start in range(len(of) - RUN + 1)}


def _repeated(turn: Turn, earlier: list[Turn]) -> float:
    """Return the share of a turn's words that stand in runs which another said before, and oneself had not."""
    theirs, own = set[tuple[str, ...]](), set[tuple[str, ...]]()
    for one in earlier:
        side = own if (one.persona, one.stage) == (turn.persona, turn.stage) else theirs
        side |= _runs(one.response or "") - theirs - own
    of, covered = words(turn.response or ""), set[int]()
    for start in range(len(of) - RUN + 1):
        if tuple(of[start : start + RUN]) in theirs:
            covered |= set(range(start, start + RUN))
    return len(covered) / len(of) if of else 0.0


def distinct(of: list[str], length: int) -> float | None:
    """Return the share of distinct runs of ``length`` words, over all windows of ``WINDOW`` words; None for fewer."""
    if len(of) < WINDOW:
        return None
    runs = [tuple(of[start : start + length]) for start in range(len(of) - length + 1)]
    size = WINDOW - length + 1
    windows = [runs[start : start + size] for start in range(len(runs) - size + 1)]
    return sum(len(set(window)) / size for window in windows) / len(windows)


def novelty(text: str, earlier: list[str]) -> float | None:
    """Return the share of a text's distinct content words that no earlier text has; None where it has too few."""
    own = {word for word in words(text) if len(word) >= _LETTERS}
    said = {word for one in earlier for word in words(one)}
    return len(own - said) / len(own) if len(own) >= LEAST else None


def semantic_novelty(text: str, earlier: list[str], embedder: str) -> float:
    """Return the squared length of what a text's unit embedding has outside the span of earlier texts'."""
    import numpy as np

    from persllm.embeddings import embed

    own = embed([text], embedder)[0].astype(np.float64)
    span = embed(earlier, embedder).astype(np.float64).T
    return float(np.sum((own - span @ np.linalg.lstsq(span, own, rcond=None)[0]) ** 2))
