"""How much memory a training device has, as far as it can be told without using one. Imports no torch."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from persllm.schema import Launch, LaunchKind, Strategy

GIB = 2**30
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Device:
    """One rank's memory."""

    memory: int
    """Bytes."""
    on_cpu: bool
    told_by: str


def device_of(strategy: Strategy, launch: Launch) -> Device | str:
    """Return the memory that each rank of a training step has, or why it is not known."""
    cluster = launch.kind is LaunchKind.slurm
    on_cpu = not launch.gpus if cluster else not _gpus()
    if strategy.memory_gib is not None:
        return Device(round(strategy.memory_gib * GIB), on_cpu, "strategy.memory_gib")
    if not cluster:
        return _here(strategy.devices)
    if launch.gpus or launch.memory is None:
        lack = "strategy.memory_gib" if launch.gpus else "strategy.memory_gib or launch.memory"
        return f"nothing tells the memory of the cluster's devices; set {lack}"
    number, unit = re.fullmatch(r"(\d+)([KMGT]?)", launch.memory).groups()  # type: ignore[union-attr]
    # Slurm's own unit is the megabyte.
    return Device(int(number) * _UNITS[unit or "M"] // strategy.devices, True, "launch.memory")


def _here(devices: int) -> Device | str:
    gpus = _gpus()
    if gpus:
        return Device(min(gpus), False, "nvidia-smi")
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    except OSError:
        return "this machine does not tell its free memory; set strategy.memory_gib"
    return Device(int(lines["MemAvailable"].split()[0]) * 1024 // devices, True, "free here")


@functools.cache
def _gpus() -> tuple[int, ...]:
    """Return the memory of each of this machine's NVIDIA GPUs, in bytes."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return tuple(int(line) * 2**20 for line in told.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        # A driver that does not answer: training would find no GPU either.
        return ()
