"""Peak memory of the present process."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

_LARGE = 2**28
_at_reset = 0
"""What was resident when the present measurement began, in bytes."""


def reset_peak() -> None:
    """Start a new measurement of the peak, where the kernel can (Linux)."""
    global _at_reset
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
    _at_reset = peak_bytes()


def peak_bytes() -> int:
    """Return the peak resident memory in bytes since the last reset (since the process began elsewhere)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def release_freed_memory() -> None:
    """Give a large step's leftovers back, so that they are not the next step's peak; free after a small step.

    GPU memory too, as the ranks of a training step are other processes; its peak is measured anew.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if peak_bytes() - _at_reset < _LARGE:
        return
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
