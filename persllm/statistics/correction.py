"""What a judge's numbers are worth: corrected by labels, with intervals that count the labels' uncertainty too."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy import special

from persllm.statistics.power import clustered_standard_error
from persllm.statistics.resampling import Floats, Ints, cluster_sums


class Corrected(NamedTuple):
    """A corrected mean; ``low`` and ``high`` bound it."""

    value: float
    low: float
    high: float
    trust: float
    """Prediction-powered: the weight that the judge earned, 0 (labels only) to 1. Rogan-Gladen: Youden's index,
    sensitivity + specificity - 1."""


class Rate(NamedTuple):
    """So many of so many; fractions are allowed, as an effective size in clusters is one."""

    hits: float
    trials: float


def prediction_powered_mean(
    labels: Floats,
    judged: Floats,
    unlabelled: Floats,
    label_clusters: Ints,
    clusters: Ints,
    confidence: float,
    weight: float | None = None,
) -> Corrected:
    """Return the mean that labels would give, from few labels and many verdicts of a judge however biased.

    Prediction-powered inference (arXiv 2301.09633) with the weight that makes the interval shortest (PPI++,
    arXiv 2311.01453): a useless judge gets weight 0 and costs nothing. The error is cluster-robust, with Student's t
    of the labelled clusters - 1.

    Args:
        labels: the truth for the labelled items; none may be missing (leave such items out and count them).
        judged: the judge's values for the same items.
        unlabelled: the judge's values for the other items.
        label_clusters: each labelled item's cluster number.
        clusters: each other item's; the same number means the same cluster.
        confidence: e.g. 0.95.
        weight: a fixed weight instead of the best one; 1 is the original method, 0 ignores the judge.

    Returns:
        The corrected mean; NaN ends for fewer than two labelled clusters.

    Raises:
        ValueError: no labelled or no other items, lengths that differ, or a value that is no number.
    """
    if not len(labels) or not len(unlabelled) or not len(labels) == len(judged) == len(label_clusters):
        raise ValueError("prediction-powered inference needs labelled items with verdicts, and verdicts without labels")
    if len(unlabelled) != len(clusters):
        raise ValueError(f"{len(unlabelled)} verdicts have {len(clusters)} clusters")
    if not all(np.isfinite(part).all() for part in (labels, judged, unlabelled)):
        raise ValueError("labels and verdicts must be numbers: leave missing ones out and count them")
    few, many = len(labels), len(unlabelled)
    if weight is None:
        spread = float(np.concatenate([judged, unlabelled]).var())
        shared = float(np.mean((labels - labels.mean()) * (judged - judged.mean())))
        weight = min(1.0, max(0.0, shared / ((1 + few / many) * spread))) if spread > 0 else 0.0
    rest = labels - weight * judged
    value = float(weight * unlabelled.mean() + rest.mean())
    count = len(np.unique(label_clusters))
    if count < 2:
        return Corrected(value, np.nan, np.nan, weight)
    pull = np.concatenate([(rest - rest.mean()) / few, weight * (unlabelled - unlabelled.mean()) / many])
    sums = cluster_sums(pull, np.concatenate([label_clusters, clusters]))
    error = float(np.sqrt(np.sum(sums**2) * count / (count - 1)))
    margin = float(special.stdtrit(count - 1, 1 - (1 - confidence) / 2)) * error
    return Corrected(value, value - margin, value + margin, weight)


def effective_rate(hits: Floats, clusters: Ints) -> Rate:
    """Return the rate of 0/1 values with the number of independent items that would be as informative.

    Never more than there are items. NaN values are left out.
    """
    known = np.isfinite(hits)
    hits, clusters = hits[known], clusters[known]
    if not len(hits):
        return Rate(0.0, 0.0)
    mean, error = float(hits.mean()), clustered_standard_error(hits, clusters)
    size = float(len(hits))
    if error > 0:
        size = max(1.0, min(size, mean * (1 - mean) / error**2))
    return Rate(mean * size, size)


def rogan_gladen(positive: Rate, sensitivity: Rate, specificity: Rate, confidence: float) -> Corrected:
    """Return the true rate behind a judge's rate, by the judge's errors on labelled items.

    Point estimate: Rogan and Gladen (American Journal of Epidemiology 107, 1978), kept within 0 and 1. Interval:
    arXiv 2511.21140, which adds pseudo-counts to all three rates and counts the uncertainty of all three.

    Args:
        positive: how many of the test items the judge calls positive.
        sensitivity: how many of the truly positive labelled items it calls positive.
        specificity: how many of the truly negative labelled items it calls negative.
        confidence: e.g. 0.95.

    Returns:
        The corrected rate. NaN, and the interval 0 to 1, where the judge is no better than chance: nothing can be
        learned from it.

    Raises:
        ValueError: a rate without trials, or with a count below 0 or above them.
    """
    for name, rate in (("positive", positive), ("sensitivity", sensitivity), ("specificity", specificity)):
        if not (rate.trials > 0 and -1e-9 <= rate.hits <= rate.trials * (1 + 1e-9)):
            raise ValueError(f"{name}: {rate.hits} of {rate.trials} is no rate")
    right, wrong = sensitivity.hits / sensitivity.trials, specificity.hits / specificity.trials
    trust = right + wrong - 1
    z = NormalDist().inv_cdf(1 - (1 - confidence) / 2)
    shown, size = (positive.hits + z * z / 2) / (positive.trials + z * z), positive.trials + z * z
    ones, zeros = sensitivity.trials + 2, specificity.trials + 2
    hit, reject = (sensitivity.hits + 1) / ones, (specificity.hits + 1) / zeros
    index = hit + reject - 1
    if trust <= 0 or index <= 0:
        return Corrected(np.nan, 0.0, 1.0, trust)
    value = min(1.0, max(0.0, (positive.hits / positive.trials + wrong - 1) / trust))
    middle = min(1.0, max(0.0, (shown + reject - 1) / index))
    noise = (1 - middle) * reject * (1 - reject) / zeros, middle * hit * (1 - hit) / ones
    shift = 2 * z * z * (noise[1] - noise[0])
    spread = shown * (1 - shown) / size + (1 - middle) * noise[0] + middle * noise[1]
    margin = z * float(np.sqrt(spread)) / index
    low, high = (min(1.0, max(0.0, middle + shift + sign * margin)) for sign in (-1, 1))
    return Corrected(value, min(low, value), max(high, value), trust)
