"""What is under review: drafts, their paragraphs, and the decisions about them as the logs tell them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from persllm import reviews
from persllm.answer import ANALYSIS, RESPONSE
from persllm.errors import UserError
from persllm.records import Item, Reanswer
from persllm.review.drafts import Drafts, DraftSet, Row
from persllm.review.history import history
from persllm.reviews import DECISIONS, FIELDS, UNDO, OvertakenError, Review


class RefusedError(Exception):
    """A decision that was not kept; the text says why and what to do.

    Args:
        status: the HTTP status that fits.
        text: one sentence.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Desk:
    """Takes decisions from several browsers at once and says what has been decided.

    Args:
        sets: what to review; two may keep their decisions in the same folder.
    """

    def __init__(self, sets: Sequence[Drafts]) -> None:
        self.lock = threading.RLock()
        self._sets = [DraftSet(place, number) for number, place in enumerate(sets)]
        self._texts = {text["key"]: text for one in self._sets for text in one.texts()}
        self._records = {
            one.key(reviews.name_of(record)): (one, record) for one in self._sets for record in one.records
        }
        self.counts()

    @property
    def folders(self) -> list[Path]:
        """The folders that logs are kept in."""
        return list(dict.fromkeys(one.folder for one in self._sets))

    def require_writable(self) -> None:
        """Raise a UserError for a folder in which no decision can be kept."""
        for folder in self.folders:
            log = folder / reviews.FILE
            if not os.access(log if log.exists() else folder, os.W_OK):
                raise UserError(f"{log}: cannot be written, so no decision could be kept; make {folder} writable")

    def counts(self) -> dict[str, int]:
        """Return how many texts are accepted, edited, rejected, open and dropped (see ``reviews.Applied``)."""
        total: Counter[str] = Counter()
        with self.lock:
            for one in self._sets:
                total.update(reviews.apply(one.items, one.reanswers, one.log.read()).counts)
            total["stale"] = sum(self._stale(folder) for folder in self.folders)
        return dict(total)

    def _stale(self, folder: Path) -> int:
        """Return how many decisions kept in a folder are about a text of none of its sets."""
        own = [one for one in self._sets if one.folder == folder]
        return len(reviews.standing(own[0].log.read()).keys() - set().union(*(one.keys for one in own)))

    def page(self) -> Row:
        """Return all that the page shows and no decision changes."""
        return {
            "texts": list(self._texts.values()),
            "materials": [
                {m.id: {"kind": m.kind, "source": m.source, "stage": m.stage, "text": m.text} for m in one.materials}
                for one in self._sets
            ],
            "set_aside": [row for one in self._sets for row in one.set_aside],
        }

    def changes(self, since: Sequence[int] = ()) -> Row:
        """Return the state of every text that a line was written about.

        Args:
            since: for each persona, how many lines of its log are known already; empty for none.
        """
        states: dict[str, Row] = {}
        with self.lock:
            logs = [one.log.read() for one in self._sets]
        for one, log, known in zip(self._sets, logs, since or [0] * len(logs), strict=True):
            # A log that got shorter was mended by hand: everything may differ.
            fresh = log[known:] if known <= len(log) else log
            places = {review.place for review in fresh} & one.keys.keys()
            lines: dict[tuple[str, str], list[Review]] = {place: [] for place in places}
            for review in log:
                if review.place in places:
                    lines[review.place].append(review)
            for place, about in lines.items():
                states[one.keys[place]] = self._state(one.keys[place], about)
        return {"since": [len(log) for log in logs], "states": states}

    def _state(self, key: str, lines: Sequence[Review]) -> Row:
        draft = {field: self._texts[key][field] for field in FIELDS}
        review = next(iter(reviews.standing(lines).values()), None)
        return {
            "seen": len(lines),
            "decision": review.decision if review else "open",
            "edited": review.edited if review else {},
            "history": history(draft, lines),
        }

    def decide(self, asked: Row) -> Row:
        """Keep a decision and return the text's state as ``changes`` does.

        Args:
            asked: ``key``, ``decision``, ``by``, ``seen`` (how many lines about this text the page knows of) and, for
                an edit, the texts ``question``, ``analysis``, ``response``.

        Raises:
            RefusedError: the decision makes no sense, was overtaken by another, or the disk does not take it.
        """
        one, record = self._find(asked)
        review = self._review(record, asked)
        with self.lock:
            lines = one.about(review.place)
            if review.decision == UNDO and not reviews.standing(lines):
                raise RefusedError(400, f"{review.id} is not decided; there is nothing to undo")
            try:
                one.log.append(review, asked["seen"])
            except OvertakenError as error:
                raise RefusedError(409, _overtaken(one.about(review.place))) from error
            except OSError as error:
                path = one.folder / reviews.FILE
                why = error.strerror or str(error)
                raise RefusedError(
                    507, f"{path}: the decision was not kept ({why}); mend that, then decide again"
                ) from error
            lines = one.about(review.place)
        return self._state(asked["key"], lines)

    def _find(self, asked: Row) -> tuple[DraftSet, Item | Reanswer]:
        wanted = {"key": str, "decision": str, "by": str, "seen": int}
        if not isinstance(asked, dict) or not all(type(asked.get(key)) is kind for key, kind in wanted.items()):
            raise RefusedError(400, "expected a JSON object with key, decision, by (texts) and seen (a whole number)")
        if asked["key"] not in self._records:
            raise RefusedError(404, f"{asked['key']}: no such text; load the page again")
        return self._records[asked["key"]]

    def _review(self, record: Item | Reanswer, asked: Row) -> Review:
        by = " ".join(asked["by"].split())
        if not 0 < len(by) <= 80 or not by.isprintable():
            raise RefusedError(400, "say who you are in 1 to 80 letters: every decision keeps who took it")
        if asked["decision"] not in (*DECISIONS, UNDO):
            raise RefusedError(400, f"decision {asked['decision']!r:.40}: expected {', '.join(DECISIONS)} or {UNDO}")
        name, of = reviews.place_of(record)
        texts = _edited(record, asked) if asked["decision"] == "edit" else {}
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Review(id=name, of=of, decision=asked["decision"], by=by, at=at, **texts)


def _edited(record: Item | Reanswer, asked: Row) -> dict[str, str]:
    """Return the texts that differ from what the annotator wrote."""
    found = {}
    for field in FIELDS if isinstance(record, Item) else FIELDS[1:]:
        text = asked.get(field)
        if not isinstance(text, str) or not text.strip():
            raise RefusedError(400, f"the {field} is empty; write one, or reject the text")
        if any(mark.strip() in text for mark in (ANALYSIS, RESPONSE)):
            raise RefusedError(
                400, f"the {field} holds {ANALYSIS.strip()} or {RESPONSE.strip()}, which mark a text's parts"
            )
        if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
            raise RefusedError(400, f"the {field} holds half a character; type it again")
        if text.strip() != getattr(record, field).strip():
            found[field] = text.strip()
    if not found:
        raise RefusedError(400, "this is what the annotator wrote, word for word; accept it instead")
    return found


def _overtaken(lines: Sequence[Review]) -> str:
    latest = lines[-1] if lines else None
    who = f"{latest.by} decided ({latest.decision}) about this text at {latest.at}" if latest else "the log was changed"
    return f"not kept: {who}; look at it and decide again"
