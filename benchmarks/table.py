"""The printed page: ratios, counters and guards, within 80 columns."""

from __future__ import annotations

import importlib.metadata
import textwrap
from dataclasses import dataclass

from benchmarks.measure import Measured, Ratio

PACKAGES = ("torch", "transformers", "peft", "pytorch-lightning", "trl")


@dataclass(frozen=True)
class Row:
    """A comparison."""

    what: str
    ratio: Ratio
    rounds: int


@dataclass(frozen=True)
class Guard:
    """A check that both sides did the same work."""

    what: str
    told: str
    holds: bool | None
    """None where there is nothing to hold to, only a number to report."""


@dataclass(frozen=True)
class Section:
    """A benchmark's results."""

    name: str
    rows: list[Row]
    sides: list[Measured]
    guards: list[Guard]


def versions() -> list[str]:
    """Return the versions of the packages that are compared or compared with, in lines."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return textwrap.wrap(", ".join(found), 80)


def _counters(name: str, side: Measured) -> str:
    best = min(side.rounds, key=lambda done: done.seconds)
    gflop = "-" if side.gflop is None else f"{side.gflop:,.0f}"
    slots = f"{best.slots:,}" if best.slots else "-"
    ahead = min(done.reference_seconds for done in side.rounds)
    told = f"{name} {side.name}"
    return (
        f"{told:<34}{best.seconds:>7.2f}{f'{ahead:.2f}' if ahead else '-':>7}{best.tokens / best.seconds:>7.0f}"
        f"{best.tokens:>7,}{slots:>7}{gflop:>6}{side.peak_mb:>5.0f}"
    )


def render(head: list[str], sections: list[Section]) -> str:
    """Return the page."""
    lines = [*head, "", f"{'times faster: persllm / peer':<52}{'ratio':>8}{'over rounds':>14}{'n':>6}"]
    for section in sections:
        for row in section.rows:
            span = f"{row.ratio.low:.2f}-{row.ratio.high:.2f}"
            lines.append(f"{section.name + ' ' + row.what:<52}{row.ratio.value:>7.2f}x{span:>14}{row.rounds:>6}")
    lines += ["", f"{'counters of the best round':<34}{'s':>7}{'ref s':>7}{'tok/s':>7}{'tokens':>7}{'slots':>7}"]
    lines[-1] += f"{'GFLOP':>6}{'MiB':>5}"
    lines += [_counters(section.name, side) for section in sections for side in section.sides]
    lines += ["", "guards: the same work on both sides"]
    for section in sections:
        for guard in section.guards:
            mark = {True: "ok", False: "BAD", None: ""}[guard.holds]
            lines.append(f"{mark:<4}{section.name} {guard.what}: {guard.told}")
    return "\n".join(lines)
