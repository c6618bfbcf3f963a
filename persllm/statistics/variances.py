"""Where the variance of a paired difference comes from: clusters, items, trained models, decoding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from persllm.statistics.resampling import Floats, Ints, cluster_sums, item_means


class Components(NamedTuple):
    """Variance components of a paired difference; see ``power.Plan``. All in squared units of the metric."""

    between: float
    """Between clusters, of a cluster's true mean difference."""
    within: float
    """Between items of one cluster, seeds averaged out."""
    seed: float
    """Between trained models, both arms added."""
    residual: float
    """Item x seed, both arms added: decoding noise and the items' own response to a seed."""


class ModelSquares(NamedTuple):
    """One arm's and persona's mean squares over seeds."""

    between: float
    """Variance between models of the mean over a persona's items, with the rest's part in it."""
    rest: float
    """That part: the variance of the mean of ``rest`` over the items, of one seed."""
    seeds: int
    clusters: int
    item: float
    """The variance of one item's ``rest``."""


def model_squares(values: Floats, clusters: Ints) -> ModelSquares | None:
    """Return the mean squares of one arm and persona (items x seeds), None where it has no second seed."""
    known = np.isfinite(values)
    columns = known.any(axis=0)
    seeds, count = int(columns.sum()), len(np.unique(clusters))
    if seeds < 2 or count < 2:
        return None
    values, known = values[:, columns], known[:, columns]
    deviations = np.where(known, values - item_means(values)[:, None], 0.0)
    sizes = known.sum(axis=0)
    effects = deviations.sum(axis=0) / sizes
    rest = np.where(known, deviations - effects, 0.0)
    sums = np.array([cluster_sums(rest[:, seed], clusters) / sizes[seed] for seed in range(seeds)])
    free = max(int((known.sum(axis=1) - 1).clip(0).sum()) - (seeds - 1), 1)
    return ModelSquares(
        between=float(np.sum(effects**2) / (seeds - 1)),
        rest=float(count / (count - 1) * np.sum(sums**2) / (seeds - 1)),
        seeds=seeds,
        clusters=count,
        item=float(np.sum(rest**2) / free),
    )


def in_both(first: Floats, second: Floats) -> npt.NDArray[np.bool_]:
    """Return which items have a value of both arms (items x seeds each)."""
    return np.logical_and(np.isfinite(first).any(axis=1), np.isfinite(second).any(axis=1))


def components(first: Floats, second: Floats, groups: Ints, clusters: Ints) -> Components:
    """Return the variance components of two arms' paired difference, by the method of moments.

    Analysis of variance within personas (Searle, Casella and McCulloch, Variance Components, 1992, chapter 5 for
    unequal clusters); a negative component is given as zero, one that an arm with one seed cannot show as well. Where
    every cluster holds one item, ``within`` is part of ``between``.

    Args:
        first: one arm's values, items x seeds, NaN where missing.
        second: the other arm's, the same items.
        groups: each item's persona, numbered.
        clusters: each item's cluster number.

    Raises:
        ValueError: no persona has two clusters with items that both arms have.
    """
    kept = in_both(first, second)
    first, second, groups, clusters = first[kept], second[kept], groups[kept], clusters[kept]
    differences = item_means(first) - item_means(second)
    inner = outer = size = 0.0
    inner_free = outer_free = 0
    seed = residual = decoded = 0.0
    for group in np.unique(groups):
        rows = groups == group
        part, index = differences[rows], np.unique(clusters[rows], return_inverse=True)[1]
        counts = np.bincount(index)
        means = np.bincount(index, weights=part) / counts
        inner += float(np.sum((part - means[index]) ** 2))
        outer += float(np.sum(counts * (means - part.mean()) ** 2))
        inner_free += len(part) - len(counts)
        outer_free += len(counts) - 1
        size += len(part) - float(np.sum(counts**2)) / len(part)
        for side in (first, second):
            found = model_squares(side[rows], clusters[rows])
            if found is not None:
                share = float(rows.mean())
                seed += share * max(0.0, found.between - found.rest)
                residual += share * found.item
                decoded += share * found.item / found.seeds
    if outer_free < 1:
        raise ValueError("variance components need two clusters of one persona with items that both arms have")
    between_square = outer / outer_free
    if not inner_free:
        return Components(max(0.0, between_square - decoded), 0.0, seed, residual)
    within_square = inner / inner_free
    between = max(0.0, (between_square - within_square) * outer_free / size)
    return Components(between, max(0.0, within_square - decoded), seed, residual)
