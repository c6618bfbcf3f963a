"""Metrics, one module per family; a new one is a new module here, named in conf/evaluate.

Each has ``METRICS``: what it measures, by name, in the order in which it is shown. A module that scores held-out items
has ``OPTIONS`` (whose likelihood it needs) and ``compute(view)``. One that examines an arm by conversations of its own
has ``score(evidence)`` and mostly ``probes(subject)``: see persllm.probes. A value of None is missing: counted, never
zero. One with ``SHARED = True`` asks every persona the same: its clusters are the same for all of them, for a question
met twice is no second question.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from persllm.records import Generation, Item

if TYPE_CHECKING:
    from persllm.statistics.derived import Derived

HELD_OUT = "Held-out items"
"""The family of the metrics that read nothing but the held-out items."""


class Metric(NamedTuple):
    """What a number is, for those who read it."""

    title: str
    unit: str = ""
    headline: bool = True
    """Whether it may be a study's primary metric and stand in its headline; what an arm says of itself may not."""
    better: str = "higher"
    """Which way is better: ``higher``, ``lower``, or empty where neither is."""
    label: str = ""
    """Why it stands in no headline, in a word or two."""


def family(name: str) -> str:
    """Return what a metric module's numbers stand under: its ``FAMILY``, else its name."""
    return getattr(module(name), "FAMILY", name.replace("_", " ").capitalize())


def derived(name: str) -> list[Derived]:
    """Return the figures that a metric module makes of its metrics' means."""
    made = getattr(module(name), "derived", None)
    return made() if made else []


def names() -> list[str]:
    """Return the names of all metric modules."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def catalogue(modules: Iterable[str]) -> dict[str, Metric]:
    """Return what some modules measure, in the order in which it is shown."""
    return {name: metric for one in modules for name, metric in module(one).METRICS.items()}


@functools.cache
def known(metric: str) -> Metric:
    """Return what a number is; one that no module of ours makes goes by its own name."""
    # A judge stands above the metrics, and imports what a metric is.
    from persllm import judging

    return (catalogue(names()) | judging.METRICS).get(metric, Metric(metric.replace("_", " ")))


def module(name: str) -> ModuleType:
    """Return the module of a metric's name, which persllm.validate has found to exist."""
    return importlib.import_module(f"persllm.metrics.{name}")


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


@functools.cache
def is_shared(metric: str) -> bool:
    """Return whether all personas meet the same questions of a metric: its clusters are then theirs together."""
    owners = [one for name in names() if metric in (one := module(name)).METRICS]
    return any(getattr(one, "SHARED", False) for one in owners)


def lower_is_better(metric: str) -> bool:
    """Return whether a smaller value is better."""
    return known(metric).better == "lower"


def has_direction(metric: str) -> bool:
    """Return whether one way is better."""
    return bool(known(metric).better)
