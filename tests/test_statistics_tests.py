"""Tests and corrections: uniform under the null, equal to brute force, scipy and statsmodels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from persllm import statistics as s
from persllm.statistics import permutation


def mean(means, counts):
    return means[0]


def twins(random, clusters, items):
    """Return an arm's components x items (signals first) as probabilities, and the clusters' effects' index."""
    index = np.repeat(np.arange(clusters), 2 * items)
    signal = np.arange(len(index)) % 2 == 0
    latent = np.where(signal, 0.5, -0.5) + random.normal(0, 0.5, clusters)[index] + random.normal(0, 1, len(index))
    rate = stats.norm.cdf(latent)
    return np.array([np.where(signal, rate, np.nan), np.where(signal, np.nan, rate)]), index


@pytest.mark.parametrize("clusters", [11, 30])
def test_label_swap_of_d_prime_is_uniform_for_identical_arms(clusters):
    random, found = np.random.default_rng(clusters), []
    for trial in range(1000):
        (first, index), (second, _) = (twins(random, clusters, 2) for _ in range(2))
        found.append(s.label_swap_p(first, second, index, s.d_prime_of_means, 499, trial))
    # Monte Carlo p-values lie on a grid of 1/500; half a step makes them continuous.
    assert (
        stats.kstest(np.array(found) - random.random(1000) / (2048 if clusters == 11 else 500), "uniform").pvalue > 0.01
    )
    assert 0.035 <= np.mean(np.array(found) <= 0.05) <= 0.065


@pytest.mark.parametrize("effect", [0.2, 0.35, 0.5])
def test_label_swap_finds_a_planted_difference_in_d_prime_as_often_as_its_spread_predicts(effect):
    random, found, gaps = np.random.default_rng(5), 0, []
    for trial in range(500):
        (first, index), (second, _) = (twins(random, 30, 2) for _ in range(2))
        first[0] += (1 - first[0]) * effect
        found += s.label_swap_p(first, second, index, s.d_prime_of_means, 499, trial) <= 0.05
        sizes = np.full(2, 60.0)
        gaps.append(float(np.subtract(*(s.d_prime_of_means(np.nanmean(x, axis=1), sizes) for x in (first, second)))))
    predicted = stats.norm.cdf(np.mean(gaps) / np.std(gaps) - stats.t.ppf(0.975, 29))
    assert found / 500 == pytest.approx(predicted, abs=0.06)


@pytest.mark.parametrize("clusters", [6, 12, 20])
def test_label_swap_of_a_mean_is_the_sign_flip(clusters):
    random = np.random.default_rng(clusters)
    index = np.arange(3 * clusters) % clusters
    first, second = (random.normal(size=(1, len(index))) for _ in range(2))
    flip = s.sign_flip_p(first[0] - second[0], index, 20_000, 0)
    swap = s.label_swap_p(first, second, index, mean, 20_000, 0)
    assert swap == pytest.approx(flip, abs=0.015 if clusters > 12 else 1e-12)


def test_label_swap_equals_brute_force_for_a_figure_of_two_means():
    random = np.random.default_rng(2)
    index = np.repeat(np.arange(6), 4)
    first, second = (random.uniform(0.2, 1, (2, 24)) for _ in range(2))
    first[0, 3], second[1, 7] = np.nan, np.nan

    def ratio(means, counts):
        return means[0] / means[1]

    known = np.isfinite(first) & np.isfinite(second)

    def gap(signs):
        swap = np.array(signs)[index].astype(bool)
        sides = [np.where(known, np.where(swap, a, b), np.nan) for a, b in ((second, first), (first, second))]
        left, right = (np.nanmean(side[0]) / np.nanmean(side[1]) for side in sides)
        return abs(left - right)

    found = [gap(signs) for signs in itertools.product((0, 1), repeat=6)]
    expected = np.mean(np.array(found) >= found[0] - 1e-12)
    assert s.label_swap_p(first, second, index, ratio, 10, 0) == pytest.approx(expected)


def test_label_swap_of_no_difference_is_one_and_of_nothing_is_unknown():
    rates, clusters = np.random.default_rng(0).random((2, 40)), np.arange(40) // 2
    assert s.label_swap_p(rates, rates, clusters, s.d_prime_of_means, 99, 0) == 1
    empty = np.full((2, 40), np.nan)
    assert math.isnan(s.label_swap_p(empty, rates, clusters, s.d_prime_of_means, 99, 0))
    only_hits = np.array([rates[0], empty[1]])
    assert math.isnan(s.label_swap_p(only_hits, rates, clusters, s.d_prime_of_means, 99, 0))
    with pytest.raises(ValueError, match="do not fit"):
        s.label_swap_p(rates, rates[:1], clusters, s.d_prime_of_means, 99, 0)


def test_sign_flip_agrees_with_scipys_permutation_test():
    random = np.random.default_rng(4)
    first, second = random.normal(0.5, 1, 11), random.normal(0, 1, 11)
    other = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert s.sign_flip_p(first - second, np.arange(11), 10, 0) == pytest.approx(other.pvalue)


@pytest.mark.parametrize("clusters", [11, 40])
def test_sign_flip_is_uniform_for_identical_arms(clusters):
    random, index, found = np.random.default_rng(clusters), np.repeat(np.arange(clusters), 3), []
    for trial in range(1000):
        arms = [random.normal(0, 1, len(index)) + random.normal(0, 1, clusters)[index] for _ in range(2)]
        found.append(s.sign_flip_p(arms[0] - arms[1], index, 499, trial))
    grid = 1024 if clusters == 11 else 500
    assert stats.kstest(np.array(found) - random.random(1000) / grid, "uniform").pvalue > 0.01


def test_sampled_swaps_are_near_the_exact_ones(monkeypatch):
    random = np.random.default_rng(9)
    (first, index), (second, _) = (twins(random, 10, 2) for _ in range(2))
    first[0] += (1 - first[0]) * 0.3
    exact = s.label_swap_p(first, second, index, s.d_prime_of_means, 1, 0)
    monkeypatch.setattr(permutation, "EXACT_CLUSTERS", 0)
    assert s.label_swap_p(first, second, index, s.d_prime_of_means, 20_000, 0) == pytest.approx(exact, abs=0.015)


def test_adjusted_p_values_are_those_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed (dev extra)")
    random = np.random.default_rng(1)
    for count in (1, 5, 40):
        p = random.beta(0.4, 1, count)
        assert s.holm(p) == pytest.approx(list(multitest.multipletests(p, method="holm")[1]))
        assert s.benjamini_hochberg(p) == pytest.approx(list(multitest.multipletests(p, method="fdr_bh")[1]))


def test_benjamini_hochberg_by_hand_and_without_a_test():
    # Sorted .005 .01 .03 .04, times 4 / rank = .02 .02 .04 .04.
    assert s.benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    adjusted = s.benjamini_hochberg([0.02, math.nan, 0.03])
    assert adjusted[0] == pytest.approx(0.03)
    assert math.isnan(adjusted[1])
    assert s.benjamini_hochberg([]) == []


def test_benjamini_hochberg_keeps_the_share_of_false_findings():
    random, shares = np.random.default_rng(3), []
    for _ in range(500):
        p = np.concatenate([random.random(40), stats.norm.sf(random.normal(3, 1, 10))])
        found = np.array(s.benjamini_hochberg(p)) <= 0.1
        shares.append(found[:40].sum() / max(found.sum(), 1))
    assert np.mean(shares) == pytest.approx(0.1 * 40 / 50, abs=0.02)


def test_d_prime_by_hand():
    # (9 + .5) / 11 and (2 + .5) / 11.
    hit, alarm = stats.norm.ppf(9.5 / 11), stats.norm.ppf(2.5 / 11)
    assert s.d_prime(9, 10, 2, 10) == pytest.approx(hit - alarm)
    assert s.criterion(9, 10, 2, 10) == pytest.approx(-(hit + alarm) / 2)
    assert np.isfinite(s.d_prime(10, 10, 0, 10))
    assert s.d_prime(5, 10, 5, 10) == pytest.approx(0)
    assert s.criterion(10, 10, 10, 10) < 0 < s.criterion(0, 10, 0, 10)
    assert np.isnan(s.d_prime(0, 0, 1, 2))
    means, counts = np.array([[0.9, 0.5], [0.2, 0.5]]), np.full((2, 2), 10.0)
    assert s.d_prime_of_means(means, counts) == pytest.approx([hit - alarm, 0])
    assert s.criterion_of_means(means, counts) == pytest.approx([-(hit + alarm) / 2, 0])
    with pytest.raises(ValueError, match="between 0"):
        s.d_prime(11, 10, 2, 10)
