"""Micro-batches and memory of planned train steps: the model's shape, the texts' lengths and the device, put together.

Imports no torch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persllm import geometry
from persllm.architecture import Architecture, find
from persllm.device_memory import Device, device_of
from persllm.errors import UserError
from persllm.schema import Config
from persllm.schema_method import Optim
from persllm.training.estimate import SHARE, Estimate, estimate, largest_micro_batch
from persllm.workload import Lengths

if TYPE_CHECKING:
    from persllm.nodes import Step


@functools.lru_cache(maxsize=64)
def _architecture(path: str, revision: str | None, outputs: Path) -> Architecture | str:
    """Return the base model's shape, or why it is not known."""
    try:
        return find(path, revision, outputs)
    except ValueError as error:
        return str(error)


def micro_batch(config: Config, objective: str, optim: Optim, strategy: dict[str, Any], lengths: Lengths) -> int:
    """Return the largest micro-batch that fits, in sequences, where ``strategy.micro_batch`` is null.

    Raises:
        UserError: nothing fits, or what it depends on is not known; the text says what to set.
    """
    assert config.method.tune is not None
    model = config.model
    ranks = geometry.ranks(strategy)
    if optim.batch_size % ranks:
        raise UserError(
            f"method.tune.{objective}.batch_size is {optim.batch_size}; expected a multiple of {ranks}, the ranks of "
            "strategy.devices x strategy.nodes"
        )
    shape = _architecture(model.path, model.revision, Path(config.outputs))
    device = device_of(config.strategy, config.launch)
    for unknown in (shape, device):
        if isinstance(unknown, str):
            raise UserError(f"strategy.micro_batch is null and cannot be chosen: {unknown}; or set it to a number")
    assert isinstance(shape, Architecture)
    assert isinstance(device, Device)
    tune = {"adapter": config.method.tune.adapter.value, "lora": vars(config.method.tune.lora)}
    share = lengths.answer / lengths.tokens
    return largest_micro_batch(
        shape,
        tune,
        objective,
        strategy,
        model.dtype.value,
        lengths.tokens,
        optim.batch_size,
        device.memory,
        completion_share=share,
        on_cpu=device.on_cpu,
    )


@dataclass(frozen=True)
class Memory:
    """What one shape of train steps needs of each device."""

    objective: str
    arms: tuple[str, ...]
    micro_batch: int
    lengths: Lengths
    ranks: int
    estimate: Estimate | None
    device: Device | None
    unknown: str
    """Why the estimate or the device's memory is not known; empty where both are."""

    @property
    def fits(self) -> bool | None:
        """Whether it stays within ``SHARE`` of the device; None where that is not known."""
        if self.estimate is None or self.device is None:
            return None
        return self.estimate.total <= SHARE * self.device.memory

    def as_json(self) -> dict[str, Any]:
        """Return the same as JSON types."""
        known = self.estimate and self.estimate.parts() | {"total": self.estimate.total, "host": self.estimate.host}
        # What is free on this machine changes from one moment to the next; a plan does not.
        lasting = self.device is not None and self.device.told_by != "free here"
        return {
            "objective": self.objective,
            "arms": list(self.arms),
            "micro_batch": self.micro_batch,
            "tokens": self.lengths.tokens,
            "answer_tokens": self.lengths.answer,
            "ranks": self.ranks,
            "bytes": known,
            "device_bytes": self.device.memory if lasting and self.device else None,
            "fits": self.fits,
            "unknown": self.unknown,
        }


def memories(steps: list[tuple[str, Step]], config: Config) -> list[Memory]:
    """Return the memory of each distinct shape of train steps, the longest sequences of each standing for it.

    Args:
        steps: arms, and their train steps.
        config: any cell's; strategy, launch and outputs are the same in all.
    """
    found: dict[str, list[tuple[str, Step]]] = {}
    for arm, step in steps:
        # Personas differ in the lengths of their texts, and seeds in nothing.
        found.setdefault(repr(_shape_of(step)), []).append((arm, step))
    device = device_of(config.strategy, config.launch)
    return [_memory(group, device, Path(config.outputs)) for group in found.values()]


def _shape_of(step: Step) -> tuple[Any, ...]:
    tune, local = step.config["tune"], step.local
    return (
        step.config["objective"],
        tune["adapter"],
        sorted(tune["lora"].items()),
        step.config["optim"]["batch_size"],
        sorted(local["strategy"].items(), key=str),
        local["model_path"],
        step.config["model"]["dtype"],
        step.config["model"]["revision"],
    )


def _memory(group: list[tuple[str, Step]], device: Device | str, outputs: Path) -> Memory:
    step = group[0][1]
    config, strategy, objective = step.config, step.local["strategy"], step.config["objective"]
    every = [Lengths(**one.local["longest"]) for _, one in group]
    lengths = Lengths(max(one.tokens for one in every), max(one.answer for one in every))
    cut = geometry.cut(strategy, config["optim"]["batch_size"], objective)
    rows = cut.micro * (2 if objective == "dpo" else 1)
    model = config["model"]
    shape = _architecture(step.local["model_path"], model["revision"], outputs)
    made = None
    if isinstance(shape, Architecture):
        made = estimate(
            shape,
            config["tune"],
            objective,
            strategy,
            model["dtype"],
            rows,
            lengths.tokens,
            rows * lengths.answer,
            accumulation=cut.accumulation,
            on_cpu=isinstance(device, Device) and device.on_cpu,
        )
    return Memory(
        objective=objective,
        arms=tuple(dict.fromkeys(arm for arm, _ in group)),
        micro_batch=rows,
        lengths=lengths,
        ranks=cut.ranks,
        estimate=made,
        device=device if isinstance(device, Device) else None,
        unknown=next((one for one in (shape, device) if isinstance(one, str)), ""),
    )
