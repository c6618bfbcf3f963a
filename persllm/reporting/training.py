"""What training was estimated to need, beside what it took: one row for each train step."""

from __future__ import annotations

from dataclasses import dataclass

from persllm import reporting
from persllm.reporting.data import Receipt, Study


@dataclass(frozen=True)
class TrainRow:
    """One train step, as texts; a dash stands for what was not recorded."""

    step: str
    devices: str
    micro_batch: str
    memory: tuple[str, str, str]
    """Estimated, measured (each of the fullest device), and the first over the second."""
    time: tuple[str, str]
    """Expected while planning, and taken."""
    speed: str
    """Tokens trained on in a second, over all devices."""


def _megabytes(size: float | None) -> str:
    return reporting.DASH if size is None else f"{size / 1e6:,.0f} MB"


def _count(value: float | None) -> str:
    return reporting.DASH if value is None else f"{value:,.0f}"


def _row(step: Receipt) -> TrainRow:
    cost = step.run.get("cost") or {}
    estimated, measured = cost.get("memory_estimate_bytes"), cost.get("peak_device_bytes")
    ratio = f"{estimated / measured:.2f}" if estimated and measured else reporting.DASH
    device, ranks = cost.get("device"), cost.get("ranks")
    named = f"{ranks} × {device}" if ranks and device else device or reporting.DASH
    return TrainRow(
        step=step.id.removeprefix("train/"),
        devices=named,
        micro_batch=_count(cost.get("micro_batch")),
        memory=(_megabytes(estimated), _megabytes(measured), ratio),
        time=tuple(reporting.seconds_text(s) for s in (step.local.get("expected_seconds"), step.run.get("seconds"))),  # type: ignore[arg-type]
        speed=_count(cost.get("tokens_per_second")),
    )


def rows(study: Study) -> list[TrainRow]:
    """Return the train steps behind a study, in order."""
    return [_row(step) for name, step in study.receipts.items() if name.startswith("train/")]
