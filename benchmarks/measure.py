"""Measure sides in turn: a counted warm-up, then timed rounds A B A B in one process; the least of n stands."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from persllm.memory import peak_bytes, reset_peak


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# Torch's counter does not know attention on a CPU by itself.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@dataclass
class Round:
    """What one side did once."""

    seconds: float = 0.0
    """Of the training steps, or of generation."""
    reference_seconds: float = 0.0
    """Of computing reference log-probabilities ahead of the steps (DPO)."""
    tokens: int = 0
    """Tokens that are no padding: read in training, written in generation."""
    slots: int = 0
    """Tokens and padding: what the model computed."""
    learned: int = 0
    """Tokens with loss."""
    losses: list[float] = field(default_factory=list)
    """Of each optimizer step."""
    texts: list[str] = field(default_factory=list)

    def count(self, mask: torch.Tensor, loss_mask: torch.Tensor) -> None:
        """Add a batch.

        Args:
            mask: [B, T], 1 for tokens.
            loss_mask: [B, T], 1 for tokens with loss.
        """
        self.tokens += int(mask.sum())
        self.slots += mask.numel()
        self.learned += int(loss_mask.sum())


class Side(Protocol):
    """One of the compared programs, ready to do the same work again from the same state."""

    name: str

    def run(self) -> Round:
        """Do the work once."""
        ...


@dataclass
class Measured:
    """A side's rounds, and what was counted around them."""

    name: str
    gflop: float | None
    """Of a round, by torch's counter; None where none was counted."""
    peak_mb: float = 0.0
    """Memory above what was held before, at most, in the first round."""
    rounds: list[Round] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Of each round."""
        return [done.seconds for done in self.rounds]

    @property
    def with_reference(self) -> list[float]:
        """Of each round, with the reference log-probabilities computed ahead of it."""
        return [done.seconds + done.reference_seconds for done in self.rounds]


@dataclass(frozen=True)
class Ratio:
    """How many times faster the first side is."""

    value: float
    """Least seconds against least seconds."""
    low: float
    high: float
    """Over the rounds."""


def clock() -> float:
    """Return seconds: processor time with one thread, where other work counts little; else wall time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def clock_name() -> str:
    """Return which clock ``clock`` reads."""
    return "processor time" if torch.get_num_threads() == 1 and not torch.cuda.is_available() else "wall time"


def _resident() -> int:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGESIZE")


def _gflop(side: Side) -> float:
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        side.run()
    return counter.get_total_flops() / 1e9


def _with_peak(side: Side) -> tuple[Round, float]:
    """Run a side with freed memory given back before, so that the growth is its own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        done = side.run()
        return done, (torch.cuda.max_memory_allocated() - held) / 2**20
    held = _resident()
    reset_peak()
    done = side.run()
    return done, (peak_bytes() - held) / 2**20


def measure(sides: Sequence[Side], rounds: int, flops: bool = True) -> list[Measured]:
    """Time all sides ``rounds`` times in turn.

    Args:
        sides: what to compare, ours first.
        rounds: how often each runs.
        flops: run each once more before, to warm up and to count its floating-point operations.
    """
    found = [Measured(side.name, _gflop(side) if flops else None) for side in sides]
    for number in range(rounds):
        for side, measured in zip(sides, found, strict=True):
            gc.collect()
            if number == 0:
                done, measured.peak_mb = _with_peak(side)
            else:
                done = side.run()
            measured.rounds.append(done)
    return found


def ratio(ours: list[float], peer: list[float]) -> Ratio:
    """Compare seconds of the same rounds."""
    each = [theirs / own for own, theirs in zip(ours, peer, strict=True)]
    return Ratio(min(peer) / min(ours), min(each), max(each))
