"""Stopping on request: a signal sets a flag, which steps mind at the end of each batch."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):
    """The user or the scheduler asked to stop; state is saved and the step continues next time."""


STOPS = {
    signal.SIGINT: "stopped",
    signal.SIGTERM: "told to end",
    signal.SIGUSR1: "time limit",
}
"""What asks for a stop: the reason as ``status`` tells it."""

_stopped_by: int | None = None


def stop_asked() -> bool:
    """Return whether a signal asked to stop; steps stop at the next batch end."""
    return _stopped_by is not None


def stopped_by() -> int | None:
    """Return the first signal that asked to stop, or None."""
    return _stopped_by


def reason() -> str:
    """Return why a stop was asked for, as ``status`` tells it."""
    return STOPS[signal.Signals(_stopped_by or signal.SIGINT)]


@contextmanager
def graceful_stop(numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM), patient: bool = False) -> Iterator[None]:
    """Turn the first of some signals into a flag; the second stops at once.

    Args:
        numbers: the signals.
        patient: leave the second without effect: a scheduler follows its warnings up with SIGKILL itself.
    """
    global _stopped_by
    _stopped_by = None

    def handler(number: int, _frame: Any) -> None:
        global _stopped_by
        if _stopped_by is None:
            _stopped_by = number
            more = f": {STOPS[signal.Signals(number)]}" if patient else "; once more to stop at once"
            print(f"\nstopping after this batch{more}", file=sys.stderr, flush=True)
        elif not patient:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
