"""Intervals, tests and power for paired items in clusters; numpy only, seeded, indifferent to the order of rows.

Arrays: ``values`` is items x seeds with NaN where a value is missing; ``groups`` and ``clusters`` number each item's
persona and its cluster (persona and material). Seeds are a second level: the seeds of one persona are drawn once per
resample and shared by its clusters, because one trained model answers all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EXACT_CLUSTERS = 12
"""Up to this many clusters every sign pattern is enumerated."""
_BLOCK = 1000


class Resampler:
    """The random draws of a comparison, made once and reused for every arm and metric."""

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples = resamples
        self.seed = seed
        self.clusters = cache(self._clusters)
        self.seeds = cache(self._seeds)

    def _clusters(self, count: int) -> Floats:
        """Return how often each cluster is drawn, resamples x clusters."""
        random = np.random.default_rng([self.seed, 1, count])
        return random.multinomial(count, np.full(count, 1 / count), size=self.resamples).astype(np.float64)

    def _seeds(self, group: int, present: int) -> Floats:
        """Return how often each of a persona's present seeds is drawn, resamples x seeds."""
        random = np.random.default_rng([self.seed, 2, group, present])
        return random.multinomial(present, np.full(present, 1 / present), size=self.resamples).astype(np.float64)


def item_means(values: Floats) -> Floats:
    """Return each item's mean over its seeds; NaN where all are missing."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def resampled_item_means(values: Floats, groups: Ints, resampler: Resampler) -> Floats:
    """Return item means with each persona's seeds resampled, resamples x items.

    One row stands for all resamples where no persona has more than one seed.
    """
    means = item_means(values)[None, :]
    known = np.isfinite(values)
    for group in np.unique(groups):
        rows = groups == group
        columns = known[rows].any(axis=0)
        if columns.sum() < 2:
            continue
        if len(means) == 1:
            means = np.repeat(means, resampler.resamples, axis=0)
        weights = resampler.seeds(int(group), int(columns.sum()))
        part, mask = values[np.ix_(rows, columns)], known[np.ix_(rows, columns)]
        total, count = weights @ np.where(mask, part, 0.0).T, weights @ mask.T.astype(np.float64)
        means[:, rows] = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return means


def bootstrap_interval(means: Floats, clusters: Ints, resampler: Resampler, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of the mean over items when whole clusters are resampled.

    Args:
        means: resamples x items (or one row for all resamples), NaN for items to leave out.
        clusters: each item's cluster number.
        resampler: the draws.
        confidence: e.g. 0.95.

    Returns:
        Low and high; NaN where fewer than two clusters hold a value.
    """
    kept = np.isfinite(means).any(axis=0)
    numbers, index = np.unique(clusters[kept], return_inverse=True)
    if len(numbers) < 2:
        return np.nan, np.nan
    means = means[:, kept]
    counts = resampler.clusters(len(numbers))
    if len(means) == 1:
        total, count = counts @ np.bincount(index, weights=means[0]), counts @ np.bincount(index)
    else:
        total, count = np.empty(resampler.resamples), np.empty(resampler.resamples)
        for start in range(0, resampler.resamples, _BLOCK):
            block = slice(start, start + _BLOCK)
            weights, known = counts[block][:, index], np.isfinite(means[block])
            total[block] = (weights * np.where(known, means[block], 0.0)).sum(axis=1)
            count[block] = (weights * known).sum(axis=1)
    found = np.divide(total, count, out=np.full(resampler.resamples, np.nan), where=count > 0)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail])
    return float(low), float(high)


def cluster_sums(values: Floats, clusters: Ints) -> Floats:
    """Return the sum of ``values`` in each cluster, in order of the cluster numbers."""
    _, index = np.unique(clusters, return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64)


def sign_flip_p(differences: Floats, clusters: Ints, resamples: int, seed: int) -> float:
    """Return the two-sided p of the null that each cluster's summed difference is symmetric about zero.

    Exact up to ``EXACT_CLUSTERS`` clusters, else Monte Carlo as ``(1 + count) / (1 + resamples)``. NaN without items.
    """
    if not len(differences):
        return np.nan
    sums = cluster_sums(differences, clusters)
    bar = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if len(sums) <= EXACT_CLUSTERS:
        bits = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ sums) >= bar))
    random = np.random.default_rng([seed, 3, len(sums)])
    count = 0
    for start in range(0, resamples, _BLOCK):
        signs = random.integers(0, 2, size=(min(_BLOCK, resamples - start), len(sums)))
        count += int((np.abs((1 - 2 * signs) @ sums) >= bar).sum())
    return (1 + count) / (1 + resamples)


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


def detectable_difference(standard_error: float, confidence: float, power: float) -> float:
    """Return the smallest true difference that a two-sided test at ``1 - confidence`` finds with ``power``."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - (1 - confidence) / 2) + normal.inv_cdf(power)) * standard_error


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values; NaN (no test) stays NaN and does not count."""
    order = sorted((i for i, p in enumerate(p_values) if np.isfinite(p)), key=lambda i: p_values[i])
    adjusted = [np.nan] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
