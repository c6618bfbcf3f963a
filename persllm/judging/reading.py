"""From a judge's text to its verdict, or the reason why it is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from persllm.annotators import REFUSED, Answer
from persllm.annotators.inquiry import LOST
from persllm.annotators.reading import Broken
from persllm.judging import SCALE

FIRST, SECOND, TIE = "A", "B", "tie"


def _objects(text: str) -> list[dict[str, Any]]:
    """Return every JSON object that stands in a text, whatever stands around it: fences, words, more objects."""
    found, place, decoder = [], text.find("{"), json.JSONDecoder()
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found += [value] if isinstance(value, dict) else []
        place = text.find("{", end)
    return found


def _field(answer: Answer, key: str) -> Any:
    """Return the one value of a key.

    Raises:
        Broken: no object has it, or two disagree on it.
    """
    if answer.finish_reason == REFUSED:
        raise Broken("refused by the server")
    if answer.finish_reason == LOST:
        raise Broken("no answer came")
    values = [found[key] for found in _objects(answer.text) if key in found]
    if not values:
        cut = answer.finish_reason == "length"
        raise Broken("cut at judge.max_tokens" if cut else f"no JSON object with {key!r}")
    if any(value != values[0] for value in values):
        raise Broken(f"two values of {key!r}")
    return values[0]


def _whole(value: Any) -> int | None:
    """Return a whole number, also one in quotation marks or with a point and zeros; None for anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
        return int(number) if number is not None and number == int(number) else None
    except (ValueError, OverflowError):
        return None


def score(answer: Answer) -> int:
    """Return a score, from 0 to 5.

    Raises:
        Broken: there is none.
    """
    found = _whole(_field(answer, "score"))
    if found is None or not 0 <= found <= SCALE:
        raise Broken(f"a score that is no whole number from 0 to {SCALE}")
    return found


def choice(answer: Answer) -> str:
    """Return ``A``, ``B`` or ``tie``.

    Raises:
        Broken: it is none of these.
    """
    found = str(_field(answer, "better")).strip().upper()
    if found not in (FIRST, SECOND, TIE.upper()):
        raise Broken("a choice that is neither A, B nor tie")
    return TIE if found == TIE.upper() else found


def role(count: int) -> Callable[[Answer], int]:
    """Return a reader of which of ``count`` characters was named, from 0.

    The reader raises Broken where it is none of them.
    """

    def read(answer: Answer) -> int:
        found = _whole(_field(answer, "character"))
        if found is None or not 1 <= found <= count:
            raise Broken("a character that was not shown")
        return found - 1

    return read
