"""The plan's sentences about memory and time, at most 80 columns wide. Imports no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from persllm import geometry
from persllm.sizing import Memory
from persllm.training.estimate import GIB, SHARE

if TYPE_CHECKING:
    from persllm.nodes import Step

WIDTH = 80


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}" if size >= GIB / 10 else f"{size / GIB:.2f}"


def memory_lines(found: list[Memory]) -> Iterator[str]:
    """Yield the estimate of each shape of train steps, with its parts, and whether it fits."""
    if not found:
        return
    device = found[0].device
    told = "(its size is not known)"
    if device is not None:
        told = f"of {_gib(device.memory)} GiB ({device.told_by}), of which {SHARE:.0%} may be filled"
    yield from _wrapped(f"training memory on a device {told}:", "  ")
    for one in found:
        yield from _wrapped(f"  {one.objective} of {', '.join(one.arms)}: {_size(one)}", "    ")
        if one.estimate is not None:
            parts = [f"{name} {_gib(size)}" for name, size in one.estimate.parts().items() if size >= GIB / 200]
            host = f"; main memory {_gib(one.estimate.host)}" if one.estimate.host else ""
            yield from _wrapped(f"    {', '.join(parts)}{host}", "    ")


def _size(one: Memory) -> str:
    batch = f"micro-batch {one.micro_batch} of up to {one.lengths.tokens:,} tokens"
    if one.estimate is None:
        return f"{batch}, memory unknown: {one.unknown}"
    verdict = {
        None: f"; {one.unknown}",
        True: ", fits",
        False: ", DOES NOT FIT: lower strategy.micro_batch; null takes what fits",
    }
    return f"{batch}, {_gib(one.estimate.total)} GiB{verdict[one.fits]}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def device_hours(steps: Iterable[tuple[Step, float | None]]) -> tuple[float, int]:
    """Return the hours that devices are held, and on how many training runs: every other step takes one."""
    hours, most = 0.0, 1
    for step, seconds in steps:
        ranks = geometry.ranks(step.local["strategy"]) if "strategy" in step.local else 1
        most = max(most, ranks)
        hours += ranks * (seconds or 0.0) / 3600
    return hours, most
