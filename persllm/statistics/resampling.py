"""The two-level bootstrap over clusters and seeds: seeded, indifferent to the order of rows.

Arrays: ``values`` is items x seeds with NaN where a value is missing; ``groups`` and ``clusters`` number each item's
persona and its cluster (persona and material). Seeds are a second level: the seeds of one persona are drawn once per
resample and shared by its clusters, because one trained model answers all of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK = 1000
"""Resamples handled at a time, which bounds the memory."""


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

    Few clusters make it too narrow. Measured with 10,000 simulated studies of two items a cluster, nominal 95 %: normal
    values covered 0.900 at 10 clusters, 0.923 at 20, 0.935 at 30, 0.939 at 60, 0.948 at 120; differences of two 0/1
    values 0.935, 0.942, 0.948, 0.953, 0.949. Below 30 clusters ask for ``expanded_confidence``: the same normal values
    then cover 0.943, 0.946, 0.950, 0.946, 0.951. A rate of 0.95 needs more clusters than either mends: 0.92 at 60.
    Three seeds that differ much are too few to resample: see ``mixed_difference``.

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
        for start in range(0, resampler.resamples, BLOCK):
            block = slice(start, start + BLOCK)
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
