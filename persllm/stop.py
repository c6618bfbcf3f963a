"""Stopping on request: a signal sets a flag, which steps mind at the end of each batch."""

from __future__ import annotations

import signal
import sys
import threading
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

TAKEN = "another process took this step over"
_stopped_by: int | None = None
_lost = threading.Event()


def stop_asked() -> bool:
    """Return whether a signal asked to stop, or the step at work was lost; steps stop at the next batch end."""
    return _stopped_by is not None or _lost.is_set()


def lease_lost() -> bool:
    """Return whether another process took over the step at work here: then nothing of it may be written any more."""
    return _lost.is_set()


@contextmanager
def stop_when(lost: threading.Event) -> Iterator[None]:
    """Let the loss of a lease ask for a stop, too."""
    global _lost
    before, _lost = _lost, lost
    try:
        yield
    finally:
        _lost = before


def stopped_by() -> int | None:
    """Return the first signal that asked to stop, or None."""
    return _stopped_by


def reason() -> str:
    """Return why a stop was asked for, as ``status`` tells it."""
    return TAKEN if _lost.is_set() else STOPS[signal.Signals(_stopped_by or signal.SIGINT)]


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
