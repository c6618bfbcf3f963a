"""What the ranks of a training run say to each other. Alone, each function is the identity."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from persllm.errors import UserError

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for another one, which may be writing to a slow disk. The death of a rank is seen at once by
who started it; only a hang takes this long."""


def init(device: torch.device) -> None:
    """Join the process group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe: NCCL on GPUs, else gloo."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
    else:
        distributed.init_process_group("gloo", timeout=TIMEOUT)


def rank() -> int:
    """Return this process's number among the ranks."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """Return how many ranks there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def device() -> torch.device:
    """Return this rank's GPU where there is one, else the CPU.

    Raises:
        UserError: the node has fewer GPUs than ranks.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    place, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if count == 1 and "SLURM_GPUS_PER_TASK" in os.environ:
        # Slurm shows each rank its own GPU only.
        place = 0
    if place >= count:
        raise UserError(f"strategy.devices asks for rank {place} of this node, which has {count} GPU(s); lower it")
    return torch.device("cuda", place)


def total(values: list[float]) -> list[float]:
    """Return the sums over the ranks, the same on each (float64, so that counts stay whole)."""
    if world() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device())
    distributed.all_reduce(tensor)
    return tensor.tolist()


def largest(value: float) -> float:
    """Return the largest value of any rank."""
    if world() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device())
    distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
    return float(tensor)


T = TypeVar("T")


def collect(values: T) -> list[T]:
    """Return every rank's value, in the order of ranks."""
    if world() == 1:
        return [values]
    found: list[T | None] = [None] * world()
    distributed.all_gather_object(found, values)
    return found  # type: ignore[return-value]


def barrier() -> None:
    """Wait until every rank is here."""
    if world() > 1:
        distributed.barrier()
