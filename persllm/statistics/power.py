"""How much a study could find: its standard error, before the run and after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special

from persllm.statistics.resampling import Floats, Ints, cluster_sums

MOST_CLUSTERS = 10_000_000
"""Where the search for a large enough study ends."""


def clustered_standard_error(values: Floats, clusters: Ints) -> float:
    """Return the cluster-robust standard error of a mean over items (arXiv 2411.00640).

    With the small-sample factor K / (K - 1), so that clusters of one item each give the usual standard error.
    NaN for fewer than two clusters.
    """
    if not len(values):
        return np.nan
    sums = cluster_sums(values - values.mean(), clusters)
    if len(sums) < 2:
        return np.nan
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.sum(sums**2)) / len(values))


def detectable_difference(standard_error: float, confidence: float, power: float, degrees: float = np.inf) -> float:
    """Return the smallest true difference that a two-sided test at ``1 - confidence`` finds with ``power``.

    Args:
        standard_error: of the difference.
        confidence: e.g. 0.95.
        power: e.g. 0.8.
        degrees: of freedom of a t test; infinite for a normal one. The noncentral t distribution is taken for a
            shifted central one: at two degrees the result is 5 % too small, and with more the error vanishes.
    """
    ends = special.stdtrit(degrees, [1 - (1 - confidence) / 2, power])
    return float(ends.sum()) * standard_error


@dataclass(frozen=True)
class Plan:
    """A study before its run: its size, and the variances of a paired difference (``components`` of a pilot)."""

    clusters: int
    items_per_cluster: float
    between: float
    """Variance between clusters of a cluster's mean difference."""
    within: float
    """Variance between the items of one cluster."""
    seeds: int = 1
    personas: int = 1
    seed: float = 0.0
    """Variance between trained models, both arms added: more items do not make it smaller, more seeds do."""
    residual: float = 0.0
    """Variance of item x seed, both arms added."""

    def __post_init__(self) -> None:
        """Refuse what no study can be.

        Raises:
            ValueError: fewer than two clusters, sizes below one, a negative variance, or variance between models
                with one seed only, which could not be told from an effect.
        """
        if self.clusters < 2 or min(self.items_per_cluster, self.seeds, self.personas) < 1:
            raise ValueError("a plan needs at least 2 clusters and 1 item, seed and persona")
        if min(self.between, self.within, self.seed, self.residual) < 0:
            raise ValueError("a plan's variances must not be negative")
        if self.seed > 0 and self.seeds < 2:
            raise ValueError("a plan with variance between models (seed > 0) needs at least 2 seeds")


def planned_standard_error(plan: Plan) -> float:
    """Return the standard error of the paired difference that the plan gives (arXiv 2411.00640, with seeds)."""
    return float(np.sqrt(_item_part(plan) + plan.seed / (plan.personas * plan.seeds)))


def _item_part(plan: Plan) -> float:
    spread = plan.within + plan.residual / plan.seeds
    return plan.between / plan.clusters + spread / (plan.clusters * plan.items_per_cluster)


def planned_power(plan: Plan, effect: float, confidence: float) -> float:
    """Return the chance that a two-sided test at ``1 - confidence`` finds a true difference ``effect``.

    Noncentral t; Satterthwaite's degrees of freedom from clusters - 1 and, for the models' variance,
    personas x (seeds - 1), as if only one of the two arms was trained.
    """
    error = planned_standard_error(plan)
    if error == 0:
        return float(effect != 0)
    models = plan.seed / (plan.personas * plan.seeds)
    squares = _item_part(plan) ** 2 / (plan.clusters - 1)
    if models:
        squares += models**2 / (plan.personas * (plan.seeds - 1))
    degrees = error**4 / squares
    bar = special.stdtrit(degrees, 1 - (1 - confidence) / 2)
    shift = abs(effect) / error
    return float(1 - special.nctdtr(degrees, shift, bar) + special.nctdtr(degrees, shift, -bar))


def planned_detectable(plan: Plan, confidence: float, power: float) -> float:
    """Return the smallest true difference that the plan finds with ``power``: ``planned_power`` turned round."""
    error = planned_standard_error(plan)
    if error == 0:
        return 0.0
    high = 2 * error
    while planned_power(plan, high, confidence) < power:
        high *= 2
    return float(optimize.brentq(lambda effect: planned_power(plan, effect, confidence) - power, 0, high))  # pyright: ignore[reportArgumentType]


def required_size(plan: Plan, effect: float, confidence: float, power: float) -> tuple[int, int] | None:
    """Return the fewest clusters, and items in all, with which the plan finds ``effect`` with ``power``.

    The plan's own number of clusters does not matter. None where ten million clusters would not do: the variance
    between models stands in the way, and only more seeds or personas help.
    """

    def enough(clusters: int) -> bool:
        return planned_power(replace(plan, clusters=clusters), effect, confidence) >= power

    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if high > MOST_CLUSTERS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high, int(np.ceil(high * plan.items_per_cluster))
