"""Coverage of 95 % intervals over 2,000 simulated clustered studies each, and agreement with scipy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from persllm import statistics as s
from persllm.statistics.derived import resampled

STUDIES = 2000


def cover(clusters, draw, confidence, truth, resampler):
    """Return how many of the studies' intervals hold the truth; draw(random, index) gives one study's items."""
    random, index = np.random.default_rng(clusters), np.repeat(np.arange(clusters), 2)
    hits = 0
    for _ in range(STUDIES):
        low, high = s.bootstrap_interval(draw(random, index)[None], index, resampler, confidence)
        hits += low <= truth <= high
    return hits / STUDIES


def normal(random, index):
    return random.normal(0, 0.7, index[-1] + 1)[index] + random.normal(0, 1, len(index))


def paired_answers(random, index):
    shared = random.normal(0, 0.7, index[-1] + 1)[index]
    right = [(shared + random.normal(0, 0.7, len(index)) > -0.5).astype(float) for _ in range(2)]
    return right[0] - right[1]


@pytest.mark.parametrize("draw", [normal, paired_answers])
@pytest.mark.parametrize("clusters", [45, 60])
def test_percentile_interval_covers_95_percent(draw, clusters):
    assert 0.93 <= cover(clusters, draw, 0.95, 0, s.Resampler(1000, 0)) <= 0.97


@pytest.mark.parametrize("clusters", [10, 20, 30, 60])
def test_expanded_interval_covers_95_percent_with_few_clusters_too(clusters):
    confidence = s.expanded_confidence(0.95, clusters)
    assert 0.93 <= cover(clusters, normal, confidence, 0, s.Resampler(1000, 0)) <= 0.97


def test_plain_percentile_undercovers_with_ten_clusters():
    """The reason for the expanded one, as its docstring says."""
    assert cover(10, normal, 0.95, 0, s.Resampler(1000, 0)) < 0.925


def test_expanded_confidence_turns_the_normal_bootstrap_into_students_interval():
    """A normal bootstrap distribution with the spread that resampling K values gives, cut at the expanded tails."""
    for count in (5, 30):
        deviation = np.sqrt((count - 1) / count**2)
        margin = stats.norm.ppf((1 + s.expanded_confidence(0.95, count)) / 2) * deviation
        assert margin == pytest.approx(stats.t.ppf(0.975, count - 1) / np.sqrt(count))
    with pytest.raises(ValueError, match="2 clusters"):
        s.expanded_confidence(0.95, 1)


def test_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(3).exponential(1, 40)
    found = s.bootstrap_interval(values[None], np.arange(40), s.Resampler(20_000, 0), 0.95)
    other = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert found == pytest.approx((other.low, other.high), abs=0.02)


def rates(random, index):
    """Return components x items x 1 of 0/1: even items are signals, odd ones noise; both share a cluster's effect."""
    latent = random.normal(0, 0.5, index[-1] + 1)[index] + random.normal(0, 1, len(index))
    signal = np.arange(len(index)) % 2 == 0
    values = np.full((2, len(index), 1), np.nan)
    values[0, signal, 0] = latent[signal] > -0.5
    values[1, ~signal, 0] = latent[~signal] > 0.5
    return values


def test_derived_interval_covers_95_percent():
    """The difference in d' of two arms alike, by the bootstrap that hits and false alarms share."""
    derived = s.Derived("d_prime", ("hit", "false_alarm"), s.d_prime_of_means)
    random, index, resampler = np.random.default_rng(8), np.repeat(np.arange(40), 4), s.Resampler(500, 0)
    groups, confidence, hits = np.zeros(len(index), dtype=np.int64), s.expanded_confidence(0.95, 40), 0
    for _ in range(STUDIES):
        sides = [rates(random, index) for _ in range(2)]
        found = [resampled(derived, side, groups, index, resampler.clusters(40), resampler) for side in sides]
        low, high = s.percentile(found[0] - found[1], confidence)
        hits += low <= 0 <= high
    assert 0.93 <= hits / STUDIES <= 0.97


def test_derived_of_one_mean_is_the_plain_interval():
    random = np.random.default_rng(4)
    values, clusters = random.normal(0, 1, (1, 60, 3)), np.arange(60) // 3
    values[0, 5], values[0, 6, 1] = np.nan, np.nan
    groups, resampler = clusters // 10, s.Resampler(400, 0)
    mean = s.Derived("mean", ("x",), lambda means, counts: means[0])
    found = s.derived_estimate(mean, values, groups, clusters, resampler, 0.9)
    draws = s.resampled_item_means(values[0], groups, resampler)
    assert found[1:3] == pytest.approx(s.bootstrap_interval(draws, clusters, resampler, 0.9))
    assert found.value == pytest.approx(np.nanmean(s.item_means(values[0])))
    assert found[3:] == (59, 1)


def test_derived_is_indifferent_to_the_order_of_items():
    random = np.random.default_rng(6)
    index, order = np.repeat(np.arange(15), 4), random.permutation(60)
    sides, groups = [rates(random, index) for _ in range(2)], index // 8
    derived, resampler = s.Derived("d", ("hit", "fa"), s.d_prime_of_means), s.Resampler(300, 0)
    plain = s.derived_contrast(derived, *sides, groups, index, resampler, 0.95)
    moved = s.derived_contrast(derived, *[x[:, order] for x in sides], groups[order], index[order], resampler, 0.95)
    assert moved == pytest.approx(plain)


def test_derived_leaves_out_what_only_one_arm_has():
    random = np.random.default_rng(7)
    index = np.repeat(np.arange(10), 4)
    first, second = (rates(random, index) for _ in range(2))
    groups = np.zeros(40, dtype=np.int64)
    derived, resampler = s.Derived("d", ("hit", "fa"), s.d_prime_of_means), s.Resampler(200, 0)
    first[:, 3], second[:, 8] = np.nan, np.nan
    kept = ~np.isin(np.arange(40), (3, 8))
    both = s.derived_contrast(derived, first, second, groups, index, resampler, 0.95)
    cut = [side[:, kept] for side in (first, second)]
    assert both == pytest.approx(s.derived_contrast(derived, *cut, groups[kept], index[kept], resampler, 0.95))
    assert both.n_items == 38
    with pytest.raises(ValueError, match="expects"):
        s.derived_estimate(derived, first[:1], groups, index, resampler, 0.95)
