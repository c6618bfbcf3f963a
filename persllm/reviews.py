"""What people decided about items: a log in the persona's folder, one decision a line, never rewritten.

``reviews.jsonl`` keeps who decided what about which text, and when. The last decision about a text counts, unless it
was taken back: ``undo`` is a line of its own and lets the decision before it count again. A line names the text by its
digest, so that it never falls on another one that an annotator wrote later under the same id.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persllm import records
from persllm.errors import UserError, did_you_mean
from persllm.identity import canonical
from persllm.records import Item, Reanswer

FILE = "reviews.jsonl"
DECISIONS = ("accept", "edit", "reject")
UNDO = "undo"
FIELDS = ("question", "analysis", "response")
"""What can be edited; a re-answer's question is its item's and is edited there."""


@dataclass(frozen=True, kw_only=True)
class Review:
    """One line of the log."""

    id: str
    """The item's id, or ``ITEM@STAGE`` for a re-answer."""
    of: str
    """The digest of the text that the annotator wrote (see ``digest``)."""
    decision: str
    """One of DECISIONS, or ``undo``."""
    question: str | None = None
    """The text as edited; None where the annotator's stays."""
    analysis: str | None = None
    response: str | None = None
    by: str
    at: str
    """UTC, such as 2026-01-31T12:00:00Z."""

    @property
    def place(self) -> tuple[str, str]:
        """The text that this is about."""
        return self.id, self.of

    @property
    def edited(self) -> dict[str, str]:
        """The edited texts by field."""
        return {key: value for key in FIELDS if (value := getattr(self, key)) is not None}


@dataclass(frozen=True)
class Applied:
    """Items and re-answers after all decisions, and how many there were of each kind."""

    items: list[Item]
    reanswers: list[Reanswer]
    counts: dict[str, int]
    """By decision; ``open`` (undecided), ``dropped`` (undecided, but left out with a rejected twin or item), and
    ``stale`` (decisions about texts that are no more)."""


class OvertakenError(Exception):
    """Somebody decided about the same text meanwhile."""


def name_of(record: Item | Reanswer) -> str:
    """Return the id that a review names a record by."""
    return record.id if isinstance(record, Item) else f"{record.item_id}@{record.stage}"


def digest(record: Item | Reanswer) -> str:
    """Return 16 hex digits that name a record's text."""
    question = record.question if isinstance(record, Item) else None
    return hashlib.sha256(canonical([question, record.analysis, record.response])).hexdigest()[:16]


def place_of(record: Item | Reanswer) -> tuple[str, str]:
    """Return what a review names a record by: its id and its digest."""
    return name_of(record), digest(record)


def load(folder: Path) -> list[Review]:
    """Read a persona's log, in the order in which decisions were taken; an absent log is empty.

    Raises:
        UserError: a line for each line that is no review.
    """
    return Log(folder).read()


class Log:
    """A persona's log, of which only what is new is parsed when it is read again.

    Args:
        folder: the persona's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._data = b""
        self._reviews: list[Review] = []

    def read(self) -> list[Review]:
        """Return all lines, as ``load`` does; a line that somebody is writing is waited for."""
        if not self.path.is_file():
            return self._parse(b"")
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return self._parse(file.read())

    def _parse(self, data: bytes) -> list[Review]:
        """Return all lines of the log, which holds ``data``."""
        if data != self._data:
            # Anything but a longer log was mended by hand.
            grown = self._data.endswith(b"\n") and data.startswith(self._data)
            known = len(self._data) if grown else 0
            fresh = _parsed(self.path, data[known:], 1 + data.count(b"\n", 0, known))
            self._reviews = [*(self._reviews if grown else ()), *fresh]
            self._data = data
        return self._reviews

    def append(self, review: Review, seen: int) -> None:
        """Add a line and sync it to disk; safe beside other processes that do the same.

        Args:
            review: the line.
            seen: how many lines about the same text whoever decided had seen.

        Raises:
            OvertakenError: there are others by now; nothing is written.
            OSError: the disk took no whole line; what it took of it is removed again.
        """
        with self.path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if sum(other.place == review.place for other in self._parse(self.path.read_bytes())) != seen:
                raise OvertakenError
            end = len(self._data)
            # A line that was added by hand may lack its end.
            start = b"\n" if end and not self._data.endswith(b"\n") else b""
            data = start + records.to_line(review).encode()
            try:
                while data:
                    data = data[file.write(data) or 0 :]
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
        if not end:
            _sync(self.path.parent)


def _parsed(path: Path, data: bytes, first: int) -> list[Review]:
    """Return the reviews in some lines of a log, the first of which has the number ``first``."""
    reviews, told = [], []
    for number, line in enumerate(data.split(b"\n"), first):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            review = records.parse(Review, records.decode(line.decode()), where)
        except UnicodeDecodeError as error:
            told.append(f"{where}: not UTF-8 text ({error.reason}); mend or remove the line")
        except UserError as error:
            told.append(str(error) if str(error).startswith(where) else f"{where}: {error}")
        else:
            told += [f"{where}: {fault}" for fault in _faults(review)]
            reviews.append(review)
    if told:
        raise UserError("\n".join(told))
    return reviews


def _faults(review: Review) -> list[str]:
    known = (*DECISIONS, UNDO)
    if review.decision not in known:
        close = did_you_mean(review.decision, known)
        return [f"field 'decision' is {review.decision!r}, expected one of {', '.join(known)}{close}"]
    if review.decision == "edit" and not review.edited:
        return [f"an edit changes one of {', '.join(FIELDS)}; this one has none of them"]
    if review.decision != "edit" and review.edited:
        return [f"field {next(iter(review.edited))!r} is for the decision 'edit', this is {review.decision!r}"]
    return [f"field {key!r} is empty; expected a text" for key, text in review.edited.items() if not text.strip()]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def standing(reviews: Sequence[Review]) -> dict[tuple[str, str], Review]:
    """Return the decision that counts about each text, by id and digest; there is none where all were undone."""
    taken: dict[tuple[str, str], list[Review]] = {}
    for review in reviews:
        decisions = taken.setdefault(review.place, [])
        if review.decision != UNDO:
            decisions.append(review)
        elif decisions:
            decisions.pop()
    return {place: decisions[-1] for place, decisions in taken.items() if decisions}


def apply(items: list[Item], reanswers: list[Reanswer], reviews: Sequence[Review]) -> Applied:
    """Return what is left after all decisions.

    A rejected item takes its twin and the re-answers to both along, for none has a use without it; where a question was
    edited, the re-answers to it stay, as they answer the edited one or are rejected themselves.

    Raises:
        UserError: an edit of a re-answer changes the question.
    """
    decided = standing(reviews)
    for record in reanswers:
        if (review := decided.get(place_of(record))) and review.question is not None:
            raise UserError(f"{FILE}: {review.id} is a re-answer; edit the question of {record.item_id} instead")
    counts: dict[str, int] = dict.fromkeys((*DECISIONS, "open", "dropped"), 0)
    rejected = {item.id for item in items if (review := decided.get(place_of(item))) and review.decision == "reject"}
    lost = rejected | {item.id for item in items if item.premise_pair in rejected}
    kept: list[Item | Reanswer] = []
    for record in (*items, *reanswers):
        review = decided.get(place_of(record))
        gone = (record.id if isinstance(record, Item) else record.item_id) in lost
        counts[review.decision if review else "dropped" if gone else "open"] += 1
        if not gone and (review is None or review.decision != "reject"):
            kept.append(dataclasses.replace(record, **review.edited) if review else record)
    counts["stale"] = len(decided.keys() - {place_of(record) for record in (*items, *reanswers)})
    return Applied(
        [record for record in kept if isinstance(record, Item)],
        [record for record in kept if isinstance(record, Reanswer)],
        counts,
    )


def effect(folder: Path) -> str:
    """Return what a persona's log changes, as 16 hex digits: its standing edits and rejections; empty where none.

    Raises:
        UserError: a line for each line of the log that is wrong.
    """
    changing = {place: review for place, review in standing(load(folder)).items() if review.decision != "accept"}
    told = [[*place, review.decision, review.edited] for place, review in sorted(changing.items())]
    return hashlib.sha256(canonical(told)).hexdigest()[:16] if told else ""
