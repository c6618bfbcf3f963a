"""Stances as probes use them: opinions of a stage, each with a reply that keeps it and one that gives it up."""

from __future__ import annotations

from collections.abc import Iterator

from persllm.metrics import Likelihood
from persllm.probes import Row, Subject, Told, Value


def stances(subject: Subject) -> Iterator[tuple[int, str, Row]]:
    """Yield a persona's stances with their stage, numbered through all stages, so that what goes round is spread.

    Args:
        subject: its ``limit`` holds for each stage.
    """
    of = subject.rows.get("stances", {})
    rows = [(stage, row) for stage in of for row in subject.few(of[stage])]
    yield from ((number, stage, row) for number, (stage, row) in enumerate(rows))


def lacking(subject: Subject) -> list[str]:
    """Return a note for each stage that has no stances."""
    without = [stage for stage in subject.card.stages if not subject.rows.get("stances", {}).get(stage)]
    return [f"{subject.name}: no {stage}/stances.jsonl, so nothing was asked" for stage in without]


def lean(likelihoods: list[Likelihood]) -> float | None:
    """Return how much likelier the first option is than the second, in nats per token; None without two options."""
    if len(likelihoods) < 2:
        return None
    return likelihoods[0].per_token - likelihoods[1].per_token


def change(after: float | None, before: float | None) -> float | None:
    """Return the difference; None where either is missing."""
    return None if after is None or before is None else after - before


def values(one: Told, found: dict[str, float | None]) -> list[Value]:
    """Return the values of some metrics for one probe."""
    probe = one.probe
    return [
        Value(item_id=probe.id, stage=probe.stage, cluster=probe.cluster, metric=metric, value=value)
        for metric, value in found.items()
    ]
