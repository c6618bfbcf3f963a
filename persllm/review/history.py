"""Who changed what of a text, with the changed words marked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from persllm.reviews import UNDO, Review


def changed_words(before: str, after: str) -> list[tuple[str, str]]:
    """Return both texts as one: pieces that are ``same``, ``gone`` or ``new``, in reading order."""
    old, new = (re.findall(r"\S+|\s+", text) for text in (before, after))
    pieces = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(old[a:b])))
            continue
        pieces += [(name, "".join(words)) for name, words in (("gone", old[a:b]), ("new", new[c:d])) if words]
    return pieces


def history(draft: Mapping[str, str], lines: Sequence[Review]) -> list[dict[str, Any]]:
    """Return the lines about one text: who, when, which decision, and what it changed in which field.

    Args:
        draft: the annotator's text by field.
        lines: the log's lines about it, in order.
    """
    told: list[dict[str, Any]] = []
    # What counts after each decision that was not undone; first what the annotator wrote.
    counting: list[Mapping[str, str]] = [draft]
    for review in lines:
        before = counting[-1]
        if review.decision != UNDO:
            counting.append({**draft, **review.edited})
        elif len(counting) > 1:
            counting.pop()
        after = counting[-1]
        changed = [field for field in draft if before[field] != after[field]]
        changes = {field: changed_words(before[field], after[field]) for field in changed}
        told.append({"by": review.by, "at": review.at, "decision": review.decision, "changes": changes})
    return told
