"""Ranks, micro-batches and accumulation, all derived from one batch size. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Geometry:
    """How one optimizer step's units (sequences, or pairs) are cut: over ranks, then into micro-batches."""

    ranks: int
    micro: int
    """Units per forward pass and rank."""
    accumulation: int
    """Forward passes per rank and optimizer step."""


def ranks(strategy: dict[str, Any]) -> int:
    """Return how many processes train together."""
    return strategy["devices"] * strategy["nodes"]


def cut(strategy: dict[str, Any], batch_size: int, objective: str) -> Geometry:
    """Return how ``batch_size`` units are cut.

    Args:
        strategy: the section of a step's config, its ``micro_batch`` a number of sequences.
        batch_size: units per optimizer step, over all ranks.
        objective: ``sft``, or ``dpo`` whose unit is two sequences.

    Raises:
        ValueError: ranks or micro-batch do not divide what they cut; the text says what would.
    """
    world = ranks(strategy)
    if batch_size % world:
        raise ValueError(f"a multiple of {world}, the ranks of strategy.devices x strategy.nodes")
    share = batch_size // world
    micro = min(share, max(1, strategy["micro_batch"] // (2 if objective == "dpo" else 1)))
    if share % micro:
        unit = " sequences" if objective == "dpo" else ""
        spread = f" on each of {world} ranks" if world > 1 else ""
        raise ValueError(
            f"a multiple of {micro * world}, as strategy.micro_batch is {strategy['micro_batch']}{unit}{spread}"
        )
    return Geometry(world, micro, share // micro)
