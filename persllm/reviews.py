"""What people decided about items: a log in the persona's folder, one decision a line, never rewritten.

``reviews.jsonl`` keeps who decided what about which text, and when; the last decision about a text counts. A decision
names the text by its digest, so that it never falls on another one that an annotator wrote later under the same id.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persllm import records
from persllm.identity import canonical
from persllm.records import Item, Reanswer

FILE = "reviews.jsonl"
DECISIONS = ("accept", "edit", "reject")


@dataclass(frozen=True, kw_only=True)
class Review:
    """One decision."""

    id: str
    """The item's id, or ``ITEM@STAGE`` for a re-answer."""
    of: str
    """The digest of the text that the annotator wrote (see ``digest``)."""
    decision: str
    question: str | None = None
    """The text as edited; None where it is not. A re-answer's question is its item's and is not edited there."""
    analysis: str | None = None
    response: str | None = None
    by: str
    at: str
    """UTC, such as 2026-01-31T12:00:00Z."""


@dataclass(frozen=True)
class Applied:
    """Items and re-answers after all decisions, and how many there were of each kind."""

    items: list[Item]
    reanswers: list[Reanswer]
    counts: dict[str, int]
    """By decision, and ``open`` (undecided) and ``stale`` (about a text that is no more)."""


def name_of(record: Item | Reanswer) -> str:
    """Return the id that a review names a record by."""
    return record.id if isinstance(record, Item) else f"{record.item_id}@{record.stage}"


def digest(record: Item | Reanswer) -> str:
    """Return 16 hex digits that name a record's text."""
    question = record.question if isinstance(record, Item) else None
    return hashlib.sha256(canonical([question, record.analysis, record.response])).hexdigest()[:16]


def load(folder: Path) -> list[Review]:
    """Read a persona's log, in the order in which decisions were taken; an absent log is empty."""
    path = folder / FILE
    return records.read(Review, path) if path.is_file() else []


def last(reviews: Sequence[Review]) -> dict[tuple[str, str], Review]:
    """Return the last decision about each text, by id and digest."""
    return {(review.id, review.of): review for review in reviews}


def apply(items: list[Item], reanswers: list[Reanswer], reviews: Sequence[Review]) -> Applied:
    """Return what is left after all decisions.

    A rejected item takes its twin and the re-answers to it along, for neither has a use without it; where a question
    was edited, the re-answers to it stay, as they answer the edited one or are rejected themselves.
    """
    decided = last(reviews)
    counts: dict[str, int] = dict.fromkeys((*DECISIONS, "open"), 0)
    met = set()

    def settle(record: Item | Reanswer) -> Item | Reanswer | None:
        place = name_of(record), digest(record)
        met.add(place)
        review = decided.get(place)
        counts[review.decision if review else "open"] += 1
        if review is None or review.decision == "accept":
            return record
        if review.decision == "reject":
            return None
        edited = {
            key: value for key in ("question", "analysis", "response") if (value := getattr(review, key)) is not None
        }
        return dataclasses.replace(record, **edited)

    kept = [found for item in items if isinstance(found := settle(item), Item)]
    ids = {item.id for item in kept}
    kept = [item for item in kept if item.premise_pair is None or item.premise_pair in ids]
    ids = {item.id for item in kept}
    again = [found for one in reanswers if isinstance(found := settle(one), Reanswer) and found.item_id in ids]
    counts["stale"] = len(decided.keys() - met)
    return Applied(kept, again, counts)
