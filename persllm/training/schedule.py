"""Which sequences meet in which micro-batch: a pure function of seed and sizes, and so resumable at any step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from persllm.training.batch import Batch


@dataclass(frozen=True)
class Schedule:
    """All optimizer steps of a run; each step is a list of micro-batches of unit indices."""

    steps: list[list[list[int]]]
    repeated: int
    """Units met once more to fill the last step."""


def make_schedule(
    lengths: Sequence[int], batch_size: int, micro_batch: int, epochs: int, seed: int, steps: int | None = None
) -> Schedule:
    """Plan a run.

    Units are shuffled anew each epoch; the last step is filled from the start of the first epoch's order. Within a
    step they are sorted by length, so that a micro-batch pads little.

    Args:
        lengths: tokens of each unit (a sequence, or a pair).
        batch_size: units per optimizer step.
        micro_batch: units per forward pass, a divisor of ``batch_size``.
        epochs: passes over the units.
        seed: of the shuffles.
        steps: optimizer steps, in place of ``epochs``: the last pass is cut off, and nothing is filled.
    """
    rng = random.Random(seed)
    order: list[int] = []
    while len(order) < (epochs * len(lengths) if steps is None else steps * batch_size):
        epoch = list(range(len(lengths)))
        rng.shuffle(epoch)
        order += epoch
    if steps is not None:
        del order[steps * batch_size :]
    missing = -len(order) % batch_size
    order += [order[i % len(order)] for i in range(missing)]
    made = []
    for start in range(0, len(order), batch_size):
        units = sorted(order[start : start + batch_size], key=lambda unit: (lengths[unit], unit))
        made.append([units[i : i + micro_batch] for i in range(0, batch_size, micro_batch)])
    return Schedule(made, missing)


class Loader:
    """One rank's micro-batches, from an optimizer step on.

    A step's micro-batches are dealt in turn, so that ranks meet sequences of like length at the same time.
    """

    def __init__(
        self,
        schedule: Schedule,
        make: Callable[[list[int], list[list[int]]], Batch],
        rank: int = 0,
        ranks: int = 1,
        first_step: int = 0,
    ) -> None:
        self.steps = schedule.steps[first_step:]
        self.make = make
        self.rank = rank
        self.ranks = ranks

    def __len__(self) -> int:
        return sum(len(step) // self.ranks for step in self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for step in self.steps:
            for micro in step[self.rank :: self.ranks]:
                yield self.make(micro, step)
