"""Figures made of several metrics' means, such as d': intervals by the shared bootstrap, p by swapping arms' labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from persllm.statistics.estimate import Estimate, percentile
from persllm.statistics.permutation import Statistic, label_swap_p
from persllm.statistics.resampling import BLOCK, Floats, Ints, Resampler, item_means, resampled_item_means


@dataclass(frozen=True)
class Derived:
    """A figure computed from the means of other metrics, never item by item."""

    name: str
    components: tuple[str, ...]
    """The metrics whose means it needs, one row each of what ``function`` gets."""
    function: Statistic


class Contrast(NamedTuple):
    """Two arms' difference in a derived figure, first minus second."""

    difference: float
    low: float
    high: float
    p: float
    n_items: int


def _point(derived: Derived, values: Floats) -> float:
    means = np.array([item_means(component) for component in values])
    known = np.isfinite(means)
    counts = known.sum(axis=1).astype(np.float64)[:, None]
    total = np.where(known, means, 0.0).sum(axis=1)[:, None]
    return float(derived.function(total / np.where(counts > 0, counts, np.nan), counts)[0])


def resampled(
    derived: Derived, values: Floats, groups: Ints, index: Ints, weights: Floats, resampler: Resampler
) -> Floats:
    """Return the figure in each resample.

    Args:
        derived: the figure.
        values: components x items x seeds; each item has a value of some component.
        groups: each item's persona, numbered.
        index: each item's cluster, numbered from 0 without gaps.
        weights: how often each cluster is drawn, resamples x clusters.
        resampler: the draws of seeds.
    """
    totals, counts = (np.full((len(values), resampler.resamples), np.nan) for _ in range(2))
    for row, component in enumerate(values):
        means = resampled_item_means(component, groups, resampler)
        known = np.isfinite(means)
        filled = np.where(known, means, 0.0)
        if len(means) == 1:
            totals[row] = weights @ np.bincount(index, weights=filled[0], minlength=weights.shape[1])
            counts[row] = weights @ np.bincount(index, weights=known[0], minlength=weights.shape[1])
            continue
        for start in range(0, resampler.resamples, BLOCK):
            block = slice(start, start + BLOCK)
            drawn = weights[block][:, index]
            totals[row, block] = (drawn * filled[block]).sum(axis=1)
            counts[row, block] = (drawn * known[block]).sum(axis=1)
    return derived.function(totals / np.where(counts > 0, counts, np.nan), counts)


def _check(derived: Derived, values: Floats, groups: Ints, clusters: Ints) -> None:
    wanted = (len(derived.components), len(clusters))
    if values.ndim != 3 or values.shape[:2] != wanted or groups.shape != clusters.shape:
        raise ValueError(f"{derived.name} expects {wanted} components x items (x seeds), not {values.shape}")


def derived_estimate(
    derived: Derived, values: Floats, groups: Ints, clusters: Ints, resampler: Resampler, confidence: float
) -> Estimate:
    """Return one arm's figure with the percentile interval over resampled clusters and seeds.

    Args:
        derived: the figure.
        values: components x items x seeds; NaN where an item has no such component, or a value is missing.
        groups: each item's persona, numbered; its seeds are drawn once for all components.
        clusters: each item's cluster number; components share the draws.
        resampler: the draws.
        confidence: e.g. 0.95. See ``expanded_confidence`` for few clusters.

    Returns:
        The estimate, without an interval below two clusters; resamples where the figure is no number are left out.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(derived, values, groups, clusters)
    kept = np.isfinite(values).any(axis=(0, 2))
    value, counted, missing = _point(derived, values), int(kept.sum()), int((~kept).sum())
    numbers, index = np.unique(clusters[kept], return_inverse=True)
    if len(numbers) < 2:
        return Estimate(value, np.nan, np.nan, counted, missing)
    draws = resampled(derived, values[:, kept], groups[kept], index, resampler.clusters(len(numbers)), resampler)
    return Estimate(value, *percentile(draws, confidence), counted, missing)


def derived_contrast(
    derived: Derived,
    first: Floats,
    second: Floats,
    groups: Ints,
    clusters: Ints,
    resampler: Resampler,
    confidence: float,
) -> Contrast:
    """Return the paired difference of two arms' figures, over the items that both have, component by component.

    Args:
        derived: the figure.
        first: one arm's values, components x items x seeds, NaN where there is none.
        second: the other arm's, the same items; it may have another number of seeds.
        groups: each item's persona, numbered.
        clusters: each item's cluster number.
        resampler: the draws, shared by both arms; its seed and count serve the permutation test too.
        confidence: e.g. 0.95.

    Returns:
        The difference, its interval, and ``label_swap_p`` of the item means; NaN where there is none.

    Raises:
        ValueError: shapes that do not fit.
    """
    for side in (first, second):
        _check(derived, side, groups, clusters)
    both = np.logical_and(np.isfinite(first).any(axis=2), np.isfinite(second).any(axis=2))
    kept = both.any(axis=0)
    sides = [np.where(both[:, :, None], side, np.nan)[:, kept] for side in (first, second)]
    groups, clusters = groups[kept], clusters[kept]
    difference = _point(derived, sides[0]) - _point(derived, sides[1])
    numbers, index = np.unique(clusters, return_inverse=True)
    low = high = np.nan
    if len(numbers) >= 2:
        weights = resampler.clusters(len(numbers))
        drawn = [resampled(derived, side, groups, index, weights, resampler) for side in sides]
        low, high = percentile(drawn[0] - drawn[1], confidence)
    means = [np.array([item_means(component) for component in side]) for side in sides]
    p = label_swap_p(means[0], means[1], clusters, derived.function, resampler.resamples, resampler.seed)
    return Contrast(difference, low, high, p, int(kept.sum()))
