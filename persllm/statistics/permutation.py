"""Tests that shuffle what the null hypothesis leaves exchangeable: signs of clusters, labels of arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from persllm.statistics.resampling import BLOCK, Floats, Ints, cluster_sums

EXACT_CLUSTERS = 12
"""Up to this many clusters every pattern is enumerated."""

Statistic = Callable[[Floats, Floats], Floats]
"""From means and counts of items, both components x draws, to the figure, one for each draw."""


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
    for start in range(0, resamples, BLOCK):
        signs = random.integers(0, 2, size=(min(BLOCK, resamples - start), len(sums)))
        count += int((np.abs((1 - 2 * signs) @ sums) >= bar).sum())
    return (1 + count) / (1 + resamples)


def _swaps(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of swap patterns, draws x clusters of 0 and 1: all of them, or ``resamples`` at random."""
    if clusters <= EXACT_CLUSTERS:
        yield ((np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1).astype(np.float64)
        return
    random = np.random.default_rng([seed, 4, clusters])
    for start in range(0, resamples, BLOCK):
        yield random.integers(0, 2, size=(min(BLOCK, resamples - start), clusters)).astype(np.float64)


def label_swap_p(
    first: Floats, second: Floats, clusters: Ints, statistic: Statistic, resamples: int, seed: int
) -> float:
    """Return the two-sided p of the null that the arms' labels mean nothing within each cluster.

    Under it the two arms' values of a whole cluster may change places, all components together, and ``statistic`` is
    computed anew for both sides. For one component and its mean this is ``sign_flip_p``; any figure of component
    means, such as d', is tested the same way. Seeds are not shuffled: p speaks of the models at hand.

    Args:
        first: one arm's item means, components x items; NaN where the item has no such component or no value.
        second: the other arm's; an item counts for a component where both arms have it.
        clusters: each item's cluster number.
        statistic: the figure of one arm.
        resamples: swap patterns drawn where there are more than ``EXACT_CLUSTERS`` clusters.
        seed: of those draws.

    Returns:
        Exact up to ``EXACT_CLUSTERS`` clusters, else ``(1 + count) / (1 + resamples)``. A pattern whose figure is no
        number counts against a finding. NaN where the observed figure is none.

    Raises:
        ValueError: the arms' shapes differ, or not one cluster for each item.
    """
    if first.shape != second.shape or first.shape[1:] != clusters.shape:
        raise ValueError(f"arms of {first.shape} and {second.shape} with {clusters.shape} clusters do not fit")
    known = np.isfinite(first) & np.isfinite(second)
    kept = known.any(axis=0)
    if not kept.any():
        return np.nan
    sides = [np.where(known, side, 0.0)[:, kept] for side in (first, second)]
    totals = [np.array([cluster_sums(row, clusters[kept]) for row in side]) for side in sides]
    counts = known.sum(axis=1).astype(np.float64)[:, None]
    gap, size = totals[1] - totals[0], np.where(counts > 0, counts, np.nan)

    def distance(swaps: Floats) -> tuple[Floats, Floats]:
        moved = gap @ swaps.T
        shape = np.broadcast_to(counts, moved.shape)
        left, right = (
            statistic((total.sum(axis=1)[:, None] + sign * moved) / size, shape)
            for total, sign in zip(totals, (1, -1), strict=True)
        )
        return np.abs(left - right), np.abs(left) + np.abs(right)

    observed, scale = (float(part[0]) for part in distance(np.zeros((1, gap.shape[1]))))
    if not np.isfinite(observed):
        return np.nan
    bar = observed - 1e-9 * scale
    found = np.concatenate([~(distance(swaps)[0] < bar) for swaps in _swaps(gap.shape[1], resamples, seed)])
    if gap.shape[1] <= EXACT_CLUSTERS:
        return float(found.mean())
    return (1 + int(found.sum())) / (1 + resamples)
