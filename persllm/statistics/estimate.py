"""What most statistics return, and how draws become an interval."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy import special

from persllm.statistics.resampling import Floats


class Estimate(NamedTuple):
    """A figure with its interval; NaN where it cannot be known."""

    value: float
    low: float
    high: float
    n: int
    """How many items (pairs, respondents) count."""
    missing: int
    """How many were left out for lack of a value."""


def percentile(draws: Floats, confidence: float) -> tuple[float, float]:
    """Return the central interval of the draws that are numbers; NaN where fewer than two are."""
    known = draws[np.isfinite(draws)]
    if len(known) < 2:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def expanded_confidence(confidence: float, clusters: int) -> float:
    """Return the confidence to ask of a percentile interval so that few clusters do not make it too narrow.

    The expanded percentile interval (Hesterberg, The American Statistician 69, 2015): wider by
    ``sqrt(K / (K - 1))`` and by Student's t instead of the normal. ``bootstrap_interval(means, clusters, resampler,
    expanded_confidence(0.95, K))`` covers 95 % where the plain one covers less; see ``bootstrap_interval`` for figures.

    Raises:
        ValueError: fewer than two clusters.
    """
    if clusters < 2:
        raise ValueError(f"an interval needs at least 2 clusters, not {clusters}")
    quantile = float(special.stdtrit(clusters - 1, 1 - (1 - confidence) / 2))
    return 1 - 2 * NormalDist().cdf(-quantile * (clusters / (clusters - 1)) ** 0.5)
