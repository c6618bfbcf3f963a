"""Which sequences meet in which micro-batch: a pure function of seed and sizes, and so resumable at any point."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from persllm.training.batch import Batch


@dataclass(frozen=True)
class Schedule:
    """All optimizer steps of a run; each step is a list of micro-batches of unit indices."""

    steps: list[list[list[int]]]
    repeated: int
    """Units met once more to fill the last step."""

    @property
    def accumulation(self) -> int:
        """Micro-batches per optimizer step."""
        return len(self.steps[0])

    @property
    def micro_batches(self) -> list[list[int]]:
        """All micro-batches in order."""
        return [micro for step in self.steps for micro in step]


def make_schedule(lengths: Sequence[int], batch_size: int, micro_batch: int, epochs: int, seed: int) -> Schedule:
    """Plan a run.

    Units are shuffled anew each epoch; the last step is filled from the start of the first epoch's order. Within a
    step they are sorted by length, so that a micro-batch pads little.

    Args:
        lengths: tokens of each unit (a sequence, or a pair).
        batch_size: units per optimizer step.
        micro_batch: units per forward pass, at most.
        epochs: passes over the units.
        seed: of the shuffles.
    """
    rng = random.Random(seed)
    order: list[int] = []
    for _ in range(epochs):
        epoch = list(range(len(lengths)))
        rng.shuffle(epoch)
        order += epoch
    missing = -len(order) % batch_size
    order += [order[i % len(order)] for i in range(missing)]
    size = min(micro_batch, batch_size)
    steps = []
    for start in range(0, len(order), batch_size):
        units = sorted(order[start : start + batch_size], key=lambda unit: (lengths[unit], unit))
        steps.append([units[i : i + size] for i in range(0, batch_size, size)])
    return Schedule(steps, missing)


class Loader:
    """An iterable of micro-batches that Lightning can save and continue in the middle."""

    def __init__(self, schedule: Schedule, make: Callable[[list[int], list[list[int]]], Batch]) -> None:
        self.schedule = schedule
        self.make = make
        self.position = 0

    def __len__(self) -> int:
        return len(self.schedule.micro_batches)

    def __iter__(self) -> Iterator[Batch]:
        micro_batches = self.schedule.micro_batches
        while self.position < len(micro_batches):
            step = self.schedule.steps[self.position // self.schedule.accumulation]
            units = micro_batches[self.position]
            self.position += 1
            yield self.make(units, step)

    def state_dict(self) -> dict[str, Any]:
        """Return where the run stands."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved position."""
        self.position = int(state["position"])
