"""Core metrics, one module per family, each with ``OPTIONS`` (whose likelihood it needs) and ``compute(view)``.

A new metric is a new module here, named in conf/evaluate. A value of None is missing: counted, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from persllm.records import Generation, Item


class Likelihood(NamedTuple):
    """An answer's log-likelihood under an arm."""

    total: float
    """nats"""
    tokens: int

    @property
    def per_token(self) -> float:
        """Length-normalised, in nats per token."""
        return self.total / self.tokens


@dataclass(frozen=True)
class View:
    """One held-out item as an arm met it."""

    item: Item
    generation: Generation
    likelihoods: dict[str, Likelihood]
    """By kind of answer: gold, other_persona, other_stage, generic, twin; absent where there is none."""
    prior: dict[str, Likelihood] = field(default_factory=dict)
    """The same answers to the same question under the base model without a persona; empty for that arm itself."""


Values = dict[str, float | None]
"""Metric name to value."""


def prefers_gold(view: View, other: str) -> float | None:
    """Return 1 where gold's length-normalised log-likelihood beats the other answer's, else 0; None without one."""
    if other not in view.likelihoods:
        return None
    return float(view.likelihoods["gold"].per_token > view.likelihoods[other].per_token)


def prefers_gold_over_prior(view: View, other: str) -> float | None:
    """Return the same after each answer's prior is subtracted; None without the other answer or a prior."""
    if other not in view.likelihoods or other not in view.prior:
        return None
    gain = {kind: view.likelihoods[kind].per_token - view.prior[kind].per_token for kind in ("gold", other)}
    return float(gain["gold"] > gain[other])


def lower_is_better(metric: str) -> bool:
    """Return whether a smaller value is better, as the metric's name says."""
    return metric.endswith(("_rate", "_acceptance", "_denial", "_loss"))
