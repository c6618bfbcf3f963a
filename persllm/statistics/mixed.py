"""Seeds as a random effect: what several trained models of one recipe have in common, and how far that can be known.

The model of one arm's value, for persona g, cluster k, item i and seed s:

    value = mean + cluster(g, k) + item(g, k, i) + seed(arm, g, s) + rest(arm, i, s)

A seed's effect belongs to one trained model: to one arm and persona, and all items of that persona share it. Arms
share items, so the paired difference of item means is free of what items have in common. With three seeds the bootstrap
over seeds and the sign-flip test know too little of what differs between models; this is the test to use there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from persllm.statistics.power import clustered_standard_error
from persllm.statistics.resampling import Floats, Ints, item_means
from persllm.statistics.variances import in_both, model_squares


class MixedDifference(NamedTuple):
    """Two arms' difference, first minus second, with clusters and seeds as random effects."""

    difference: float
    standard_error: float
    degrees: float
    """Satterthwaite's degrees of freedom."""
    low: float
    high: float
    p: float
    n_items: int
    seeds_counted: tuple[bool, bool]
    """Whether each arm has a second seed anywhere; without, what differs between its models is not in the error."""


def mixed_difference(first: Floats, second: Floats, groups: Ints, clusters: Ints, confidence: float) -> MixedDifference:
    """Return the difference of two arms' means over items, tested against clusters' and seeds' variance together.

    The error is that of the paired item differences (cluster-robust, so any dependence within a cluster is allowed)
    plus what the models' own variance adds, by the method of moments; for balanced data this is REML's answer where
    REML's components are positive. A negative component counts as zero. Degrees of freedom after Satterthwaite
    (Biometrics Bulletin 2, 1946).

    Args:
        first: one arm's values, items x seeds, NaN where missing.
        second: the other arm's, the same items; it may have another number of seeds.
        groups: each item's persona, numbered: one trained model for each persona and seed.
        clusters: each item's cluster number, no cluster in two personas.
        confidence: e.g. 0.95.

    Returns:
        The difference over the items that both arms have. NaN for its error with fewer than two clusters.
    """
    kept = in_both(first, second)
    first, second, groups, clusters = first[kept], second[kept], groups[kept], clusters[kept]
    differences = item_means(first) - item_means(second)
    value = float(differences.mean()) if len(differences) else np.nan
    paired = clustered_standard_error(differences, clusters) ** 2
    terms, variance = [(paired, len(np.unique(clusters)) - 1)], paired
    counted = [False, False]
    for arm, side in enumerate((first, second)):
        for group in np.unique(groups):
            rows = groups == group
            found = model_squares(side[rows], clusters[rows])
            if found is None:
                continue
            counted[arm] = True
            share = float(rows.mean()) ** 2 / found.seeds
            if found.between > found.rest:
                variance += share * (found.between - found.rest)
                terms.append((share * found.between, found.seeds - 1))
                terms.append((share * found.rest, (found.seeds - 1) * (found.clusters - 1)))
    error = float(np.sqrt(variance))
    squares = sum(part**2 / free for part, free in terms if free > 0)
    degrees = variance**2 / squares if squares > 0 else float(max(len(np.unique(clusters)) - 1, 1))
    margin = float(special.stdtrit(degrees, 1 - (1 - confidence) / 2)) * error
    # Arms alike in every item leave no error: no difference is then certain, any difference a finding.
    p = float(value == 0) if error == 0 else float(2 * special.stdtr(degrees, -abs(value) / error))
    return MixedDifference(
        value, error, degrees, value - margin, value + margin, p, len(differences), (counted[0], counted[1])
    )
