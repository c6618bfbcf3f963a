"""Agreement beyond chance: Cohen's kappa, plain and weighted, and Krippendorff's alpha."""

from __future__ import annotations

from typing import Literal

import numpy as np

from persllm.statistics.estimate import Estimate, percentile
from persllm.statistics.resampling import Floats, Ints, Resampler

Weighting = Literal["nominal", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]
_BLOCK = 200


def _ratio(observed: Floats, expected: Floats) -> Floats:
    """Return 1 - observed / expected disagreement; NaN where chance leaves none (one category only)."""
    return 1 - np.divide(observed, expected, out=np.full_like(observed, np.nan), where=expected > 1e-12)


def _kappas(tables: Floats, cost: Floats) -> Floats:
    """Return kappa of each table; tables: batch x categories x categories."""
    total = tables.sum(axis=(1, 2))
    chance = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
    observed, expected = (tables * cost).sum(axis=(1, 2)), (chance * cost).sum(axis=(1, 2))
    safe = np.where(total > 0, total, 1.0)
    return _ratio(observed / safe, expected / safe**2)


def cohen_kappa(
    first: Floats,
    second: Floats,
    clusters: Ints,
    resampler: Resampler,
    confidence: float,
    weighting: Weighting = "nominal",
) -> Estimate:
    """Return two raters' kappa (Cohen 1960; weighted: 1968) with the interval over resampled clusters.

    Args:
        first: one rater's category of each item as a number, NaN where missing.
        second: the other's; only items that both rated count.
        clusters: each item's cluster number.
        resampler: the draws.
        confidence: e.g. 0.95.
        weighting: what a disagreement costs: the same for all, or by the distance of the categories' ranks among
            those that occur, or by its square.

    Returns:
        The estimate; NaN where both raters use one and the same category only, since chance explains everything.
        Resamples where that happens are left out of the interval.
    """
    known = np.isfinite(first) & np.isfinite(second)
    categories = np.unique(np.concatenate([first[known], second[known]]))
    left, right = (np.searchsorted(categories, side[known]) for side in (first, second))
    ranks = np.arange(len(categories), dtype=np.float64)
    gap = np.abs(ranks[:, None] - ranks)
    cost = {"nominal": (gap > 0).astype(np.float64), "linear": gap, "quadratic": gap**2}[weighting]
    numbers, index = np.unique(clusters[known], return_inverse=True)
    tables = np.zeros((len(numbers), len(categories), len(categories)))
    np.add.at(tables, (index, left, right), 1)
    value = float(_kappas(tables.sum(axis=0)[None], cost)[0])
    low = high = np.nan
    if len(numbers) >= 2:
        weights = resampler.clusters(len(numbers))
        blocks = [weights[start : start + _BLOCK] for start in range(0, len(weights), _BLOCK)]
        low, high = percentile(np.concatenate([_kappas(np.tensordot(b, tables, 1), cost) for b in blocks]), confidence)
    return Estimate(value, low, high, int(known.sum()), int((~known).sum()))


def _alphas(coincidences: Floats, values: Floats, level: Level) -> Floats:
    """Return alpha of each matrix of coincidences (batch x values x values, symmetric)."""
    margin = coincidences.sum(axis=2)
    total = margin.sum(axis=1)
    if level == "ordinal":
        middle = np.cumsum(margin, axis=1) - margin / 2
        cost = (middle[:, :, None] - middle[:, None, :]) ** 2
    else:
        gap = values[:, None] - values
        cost = np.broadcast_to(gap**2 if level == "interval" else (gap != 0).astype(np.float64), coincidences.shape)
    observed = (coincidences * cost).sum(axis=(1, 2))
    expected = (margin[:, :, None] * margin[:, None, :] * cost).sum(axis=(1, 2))
    return _ratio(observed, expected / np.where(total > 1, total - 1, 1.0))


def krippendorff_alpha(
    ratings: Floats, clusters: Ints, resampler: Resampler, confidence: float, level: Level = "nominal"
) -> Estimate:
    """Return Krippendorff's alpha with the interval over resampled clusters.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.

    Args:
        ratings: items x raters, categories or scores as numbers, NaN where a rater gave none.
        clusters: each item's cluster number.
        resampler: the draws.
        confidence: e.g. 0.95.
        level: nominal (any two categories are equally far), ordinal (by ranks in use) or interval (by the numbers).

    Returns:
        The estimate: ``n`` items that two raters or more rated, ``missing`` those that fewer did. NaN where only one
        value occurs.
    """
    known = np.isfinite(ratings)
    paired = known.sum(axis=1) >= 2
    ratings, known = ratings[paired], known[paired]
    values = np.unique(ratings[known])
    items, raters = np.nonzero(known)
    counts = np.zeros((len(ratings), len(values)))
    np.add.at(counts, (items, np.searchsorted(values, ratings[items, raters])), 1)
    numbers, index = np.unique(clusters[paired], return_inverse=True)
    units = np.zeros((len(numbers), len(values), len(values)))
    for place, row in zip(index, counts, strict=True):
        units[place] += (np.outer(row, row) - np.diag(row)) / (row.sum() - 1)
    value = float(_alphas(units.sum(axis=0)[None], values, level)[0])
    low = high = np.nan
    if len(numbers) >= 2:
        weights = resampler.clusters(len(numbers))
        blocks = [weights[start : start + _BLOCK] for start in range(0, len(weights), _BLOCK)]
        drawn = [_alphas(np.tensordot(block, units, 1), values, level) for block in blocks]
        low, high = percentile(np.concatenate(drawn), confidence)
    return Estimate(value, low, high, int(paired.sum()), int((~paired).sum()))
