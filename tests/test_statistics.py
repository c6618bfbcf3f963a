"""Intervals, tests and power against hand computation, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from persllm import statistics
from persllm.statistics import Resampler, permutation


def interval_of(values, clusters, resampler, groups=None):
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    groups = np.zeros(len(values), dtype=np.int64) if groups is None else groups
    means = statistics.resampled_item_means(values, groups, resampler)
    return statistics.bootstrap_interval(means, np.asarray(clusters), resampler, 0.95)


def test_item_means_leave_missing_seeds_out():
    values = np.array([[1.0, 3.0], [np.nan, 5.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(statistics.item_means(values), [2.0, 5.0, np.nan])


def test_holm_against_a_hand_computed_example():
    # Sorted .005 .01 .03 .04, times 4 3 2 1 = .02 .03 .06 .04; the last is raised to .06.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_does_not_count_a_contrast_without_a_test():
    adjusted = statistics.holm([0.02, math.nan, 0.03])
    assert adjusted[0] == pytest.approx(0.04)
    assert math.isnan(adjusted[1])


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_exact_sign_flip_equals_brute_force(count):
    random = np.random.default_rng(count)
    clusters = np.concatenate([np.arange(count), random.integers(0, count, 2 * count)])
    differences = random.normal(0.3, 1, len(clusters))
    sums = [differences[clusters == k].sum() for k in range(count)]
    flips = [sum(s * v for s, v in zip(signs, sums, strict=True)) for signs in itertools.product((1, -1), repeat=count)]
    expected = np.mean([abs(flip) >= abs(sum(sums)) - 1e-9 for flip in flips])
    assert statistics.sign_flip_p(differences, clusters, 10, 0) == pytest.approx(expected)


def test_sign_flip_of_no_difference_is_one_and_of_no_items_is_unknown():
    assert statistics.sign_flip_p(np.zeros(40), np.arange(40), 100, 0) == 1.0
    assert statistics.sign_flip_p(np.zeros(5), np.arange(5), 100, 0) == 1.0
    assert math.isnan(statistics.sign_flip_p(np.array([]), np.array([], dtype=np.int64), 100, 0))


def test_monte_carlo_sign_flip_is_near_the_exact_one_and_never_zero(monkeypatch):
    random = np.random.default_rng(3)
    differences, clusters = random.normal(0.4, 1, 36), np.arange(36) % 12
    exact = statistics.sign_flip_p(differences, clusters, 1, 0)
    monkeypatch.setattr(permutation, "EXACT_CLUSTERS", 0)
    assert statistics.sign_flip_p(differences, clusters, 20_000, 0) == pytest.approx(exact, abs=0.01)
    assert statistics.sign_flip_p(np.ones(36), np.arange(36), 99, 0) == 1 / 100


@pytest.mark.parametrize("clusters", [10, 30])
def test_identical_arms_give_uniform_p(clusters):
    """Two arms drawn from one distribution, with a shared effect in each cluster; exact and Monte Carlo."""
    random = np.random.default_rng(clusters)
    index = np.repeat(np.arange(clusters), 3)
    found = []
    for trial in range(400):
        arms = [random.normal(0, 1, len(index)) + random.normal(0, 1, clusters)[index] for _ in range(2)]
        found.append(statistics.sign_flip_p(arms[0] - arms[1], index, 199, trial))
    ordered = np.sort(found)
    steps = np.arange(1, len(ordered) + 1) / len(ordered)
    distance = max(np.max(steps - ordered), np.max(ordered - steps + 1 / len(ordered)))
    # The one-sample Kolmogorov-Smirnov bound at 1 in 1,000, plus the grid of p-values.
    assert distance < 1.95 / math.sqrt(len(ordered)) + 1 / 200


def test_bootstrap_interval_covers_the_true_mean():
    random = np.random.default_rng(0)
    resampler = Resampler(500, 0)
    index = np.repeat(np.arange(40), 2)
    hits = 0
    for _ in range(200):
        values = 1 + random.normal(0, 1, 40)[index] + random.normal(0, 0.5, 80)
        low, high = interval_of(values, index, resampler)
        hits += low <= 1 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_seed_effects_shared_by_a_personas_clusters_are_covered():
    """Each seed shifts every item of its persona: resampling clusters alone would cover far less often."""
    random = np.random.default_rng(1)
    resampler = Resampler(300, 0)
    groups, clusters = np.repeat([0, 1], 40), np.arange(80)
    hits = narrow = 0
    for _ in range(200):
        shift = random.normal(0, 1, (2, 8))[groups]
        values = shift + random.normal(0, 1, (80, 8))
        low, high = interval_of(values, clusters, resampler, groups)
        hits += low <= 0 <= high
        low, high = interval_of(values.mean(axis=1), clusters, resampler, groups)
        narrow += low <= 0 <= high
    assert hits / 200 > 0.85
    assert narrow / 200 < 0.7


def test_cluster_interval_is_wider_when_items_of_a_cluster_are_equal():
    random = np.random.default_rng(5)
    resampler = Resampler(2000, 0)
    index = np.repeat(np.arange(20), 5)
    values = random.normal(0, 1, 20)[index]
    by_cluster, by_item = interval_of(values, index, resampler), interval_of(values, np.arange(100), resampler)
    ratio = (by_cluster[1] - by_cluster[0]) / (by_item[1] - by_item[0])
    assert ratio == pytest.approx(math.sqrt(5), rel=0.15)


def test_one_row_of_means_equals_the_same_row_for_every_resample():
    resampler, clusters = Resampler(300, 0), np.arange(30) % 11
    values = np.random.default_rng(9).normal(0, 1, 30)[None, :]
    one = statistics.bootstrap_interval(values, clusters, resampler, 0.9)
    many = statistics.bootstrap_interval(np.repeat(values, 300, axis=0), clusters, resampler, 0.9)
    assert one == pytest.approx(many, rel=1e-12)


def test_one_cluster_has_no_interval_and_no_error():
    assert all(math.isnan(end) for end in interval_of([1.0, 2.0], [0, 0], Resampler(50, 0)))
    assert math.isnan(statistics.clustered_standard_error(np.array([1.0, 2.0]), np.array([0, 0])))


def test_missing_items_change_nothing_but_their_own_weight():
    resampler = Resampler(200, 0)
    full = interval_of([1.0, 2.0, 4.0], [0, 1, 2], resampler)
    assert interval_of([1.0, 2.0, np.nan, 4.0, np.nan], [0, 1, 1, 2, 7], resampler) == full


def test_detectable_difference_by_hand():
    # Deviations from the mean 2.5 are -1.5 -.5 .5 1.5; clusters (0, 1) and (2, 3) sum to -2 and 2.
    error = statistics.clustered_standard_error(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1]))
    assert error == pytest.approx(math.sqrt(2 / 1 * (4 + 4)) / 4)
    # z(.975) + z(.8) = 1.959964 + 0.841621
    assert statistics.detectable_difference(error, 0.95, 0.8) == pytest.approx(2.801585 * error, rel=1e-6)
    # Student's t with ten degrees: 2.228139 and 0.879058.
    assert statistics.detectable_difference(error, 0.95, 0.8, 10) == pytest.approx(3.107197 * error, rel=1e-5)


def test_clusters_of_one_item_give_the_usual_standard_error():
    values = np.random.default_rng(2).normal(0, 1, 30)
    usual = values.std(ddof=1) / math.sqrt(30)
    assert statistics.clustered_standard_error(values, np.arange(30)) == pytest.approx(usual)


def test_draws_depend_on_the_seed_only():
    first, again, other = (Resampler(50, seed).clusters(7) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first.sum(axis=1), np.full(50, 7))
