"""Agreement, reliability, corrected judges and Bradley-Terry: known examples, statsmodels, brute force, coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from persllm import statistics as s
from persllm.statistics.davidson import fit

DRAWS = s.Resampler(500, 0)
NAN = math.nan


@pytest.mark.parametrize("weighting", ["nominal", "linear", "quadratic"])
def test_kappa_is_that_of_statsmodels(weighting):
    raters = pytest.importorskip("statsmodels.stats.inter_rater", reason="statsmodels is not installed (dev extra)")
    random = np.random.default_rng(1)
    first = random.integers(0, 4, 300).astype(float)
    second = np.where(random.random(300) < 0.6, first, random.integers(0, 4, 300))
    table = np.histogram2d(first, second, bins=4)[0]
    other = raters.cohens_kappa(
        table,
        weights=None if weighting == "nominal" else np.arange(4),
        wt=None if weighting == "nominal" else weighting,
    )
    found = s.cohen_kappa(first, second, np.arange(300), s.Resampler(4000, 0), 0.95, weighting)
    assert found.value == pytest.approx(other.kappa)
    # Items are independent here, so that the bootstrap has the large-sample interval.
    assert (found.low, found.high) == pytest.approx((other.kappa_low, other.kappa_upp), abs=0.015)


def test_kappa_by_hand_with_missing_verdicts_and_without_variety():
    first, second = np.array([1, 1, 0, 0, 1, NAN]), np.array([1, 1, 0, 1, NAN, 0])
    # Observed 3/4, by chance (2 * 3 + 2 * 1) / 16 = 1/2.
    found = s.cohen_kappa(first, second, np.arange(6), DRAWS, 0.95)
    assert (found.value, found.n, found.missing) == (pytest.approx(0.5), 4, 2)
    assert math.isnan(s.cohen_kappa(np.ones(5), np.ones(5), np.arange(5), DRAWS, 0.95).value)
    assert math.isnan(s.cohen_kappa(first, second, np.zeros(6), DRAWS, 0.95).low)


KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
"""The example of Krippendorff's 2011 paper, section C: four observers, twelve units, values missing."""


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_krippendorffs_example(level, alpha):
    found = s.krippendorff_alpha(KRIPPENDORFF, np.arange(12), DRAWS, 0.95, level)
    assert found.value == pytest.approx(alpha, abs=5e-4)
    assert (found.n, found.missing) == (11, 1)
    assert found.low < alpha < found.high


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_is_zero_by_chance_one_when_all_agree_and_unknown_without_variety(level):
    random = np.random.default_rng(2)
    noise = random.integers(0, 4, (4000, 3)).astype(float)
    few = s.Resampler(20, 0)
    assert s.krippendorff_alpha(noise, np.arange(4000) // 50, few, 0.95, level).value == pytest.approx(0, abs=0.03)
    agreed = np.repeat(noise[:50, :1], 3, axis=1)
    assert s.krippendorff_alpha(agreed, np.arange(50), few, 0.95, level)[:3] == (1, 1, 1)
    assert math.isnan(s.krippendorff_alpha(np.ones((9, 2)), np.arange(9), few, 0.95, level).value)


def test_kappa_interval_covers_95_percent():
    random, index, hits = np.random.default_rng(3), np.repeat(np.arange(50), 2), 0
    draws, confidence = s.Resampler(400, 0), s.expanded_confidence(0.95, 50)
    for _ in range(2000):
        truth = (random.random(50) < 0.5)[index]
        wrong = [random.random(100) < 0.1 for _ in range(2)]
        first, second = (np.where(w, ~truth, truth).astype(float) for w in wrong)
        found = s.cohen_kappa(first, second, index, draws, confidence)
        hits += found.low <= 2 * (0.9**2 + 0.1**2) - 1 <= found.high
    assert 0.93 <= hits / 2000 <= 0.97


def scale(random, people, items):
    """Return answers of equal covariance: alpha is items / (items + 2)."""
    return random.normal(0, 1, (people, 1)) + random.normal(0, 2**0.5, (people, items))


def test_cronbach_alpha_by_hand_and_its_interval_covers():
    # Variances of the items 1 and 1, of the totals 3: 2 * (1 - 2 / 3).
    answers = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [NAN, 1.0]])
    found = s.cronbach_alpha(answers, 0.95)
    assert (found.value, found.n, found.missing) == (pytest.approx(2 / 3), 3, 1)
    random, hits = np.random.default_rng(4), 0
    for _ in range(2000):
        drawn = s.cronbach_alpha(scale(random, 25, 6), 0.95)
        hits += drawn.low <= 6 / 8 <= drawn.high
    assert 0.93 <= hits / 2000 <= 0.97
    assert math.isnan(s.cronbach_alpha(np.ones((5, 3)), 0.95).value)
    with pytest.raises(ValueError, match="2 items"):
        s.cronbach_alpha(np.ones((5, 1)), 0.95)


def test_split_half_is_the_mean_over_all_halves():
    answers = scale(np.random.default_rng(5), 40, 4)
    related = [
        np.corrcoef(answers[:, half].sum(axis=1), np.delete(answers, half, axis=1).sum(axis=1))[0, 1]
        for half in map(list, itertools.combinations(range(4), 2))
    ]
    expected = np.mean([2 * r / (1 + r) for r in related])
    found = s.split_half(answers, 4000, 0, 0.95)
    assert found.value == pytest.approx(expected, abs=0.005)
    assert found.low <= found.value <= found.high
    assert s.split_half(scale(np.random.default_rng(6), 4000, 7), 200, 0, 0.95).value == pytest.approx(7 / 9, abs=0.02)


def judged(random, clusters, bias=0.5, noise=0.5):
    index = np.repeat(np.arange(clusters), 2)
    truth = random.normal(0, 0.7, clusters)[index] + random.normal(0, 1, len(index))
    return truth, truth + random.normal(bias, noise, len(index)), index


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_prediction_powered_mean_covers_and_is_never_much_wider_than_labels_alone(noise):
    random, hits, widths = np.random.default_rng(7), 0, []
    for _ in range(2000):
        labels, verdicts, few = judged(random, 30, noise=noise)
        _, others, many = judged(random, 300, noise=noise)
        data = (labels, verdicts, others, few, many + 1000, 0.95)
        found, alone = s.prediction_powered_mean(*data), s.prediction_powered_mean(*data, weight=0)
        hits += found.low <= 0 <= found.high
        widths.append(((found.high - found.low), (alone.high - alone.low)))
    assert 0.93 <= hits / 2000 <= 0.97
    ratio = np.divide(*np.mean(widths, axis=0))
    assert ratio < (0.5 if noise == 0.5 else 1.0)


def test_prediction_powered_mean_by_hand():
    labels, verdicts, others = np.array([1.0, 3.0, 2.0]), np.array([2.0, 3.0, 4.0]), np.array([1.0, 5.0, 3.0, 3.0])
    places = np.arange(3), np.arange(3, 7)
    found = s.prediction_powered_mean(labels, verdicts, others, *places, 0.95, weight=1)
    assert found.value == pytest.approx(3 + (2 - 3))
    zero = s.prediction_powered_mean(labels, verdicts, others, *places, 0.95, weight=0)
    usual = stats.t.interval(0.95, 2, 2, labels.std(ddof=1) / 3**0.5)
    assert zero[:3] == pytest.approx((2, *usual))
    useless = s.prediction_powered_mean(labels, np.ones(3), np.ones(4), *places, 0.95)
    assert useless.trust == 0
    with pytest.raises(ValueError, match="must be numbers"):
        s.prediction_powered_mean(labels, verdicts, others * NAN, *places, 0.95)


@pytest.mark.parametrize(("truth", "right", "wrong"), [(0.3, 0.9, 0.8), (0.8, 0.9, 0.7), (0.5, 0.75, 0.75)])
def test_rogan_gladen_covers_where_the_judges_rate_does_not(truth, right, wrong):
    random, hits, naive, values = np.random.default_rng(8), 0, 0, []
    for _ in range(2000):
        shown = random.binomial(400, truth * right + (1 - truth) * (1 - wrong))
        errors = s.Rate(random.binomial(60, right), 60), s.Rate(random.binomial(60, wrong), 60)
        found = s.rogan_gladen(s.Rate(shown, 400), *errors, 0.95)
        hits += found.low <= truth <= found.high
        margin = 1.96 * math.sqrt(shown / 400 * (1 - shown / 400) / 400)
        naive += abs(shown / 400 - truth) <= margin
        values.append(found.value)
    assert 0.93 <= hits / 2000 <= 0.985
    assert np.mean(values) == pytest.approx(truth, abs=0.015)
    if truth != 0.5:
        assert naive / 2000 < 0.9


def test_rogan_gladen_by_hand_and_of_a_coin():
    # (0.6 + 0.8 - 1) / (0.9 + 0.8 - 1)
    found = s.rogan_gladen(s.Rate(60, 100), s.Rate(45, 50), s.Rate(40, 50), 0.95)
    assert (found.value, found.trust) == (pytest.approx(4 / 7), pytest.approx(0.7))
    coin = s.rogan_gladen(s.Rate(60, 100), s.Rate(25, 50), s.Rate(25, 50), 0.95)
    assert math.isnan(coin.value)
    assert coin[1:3] == (0, 1)
    with pytest.raises(ValueError, match="sensitivity"):
        s.rogan_gladen(s.Rate(6, 10), s.Rate(0, 0), s.Rate(4, 5), 0.95)


def test_effective_rate_counts_equal_items_of_a_cluster_once():
    random = np.random.default_rng(9)
    hits = (random.random(200) < 0.4).astype(float)
    copies = s.effective_rate(np.repeat(hits, 5), np.repeat(np.arange(200), 5))
    assert copies.trials == pytest.approx(200, rel=0.02)
    assert copies.hits / copies.trials == pytest.approx(hits.mean())
    assert s.effective_rate(np.ones(7), np.arange(7)) == (7, 7)


def matches(random, ability, count, tie=0.0, clusters=40):
    """Return first, second, outcome and clusters of random comparisons under Davidson's model."""
    first = random.integers(0, len(ability), count)
    second = (first + random.integers(1, len(ability), count)) % len(ability)
    strength = np.exp(ability)
    parts = strength[first], tie * np.sqrt(strength[first] * strength[second]), strength[second]
    drawn = random.random(count) * sum(parts)
    outcome = np.where(drawn < parts[0], 1.0, np.where(drawn < parts[0] + parts[1], 0.5, 0.0))
    return first, second, outcome, np.arange(count) % clusters


def test_bradley_terry_is_the_maximum_of_the_likelihood():
    first, second, outcome, clusters = matches(np.random.default_rng(10), np.array([-1.0, 0.0, 0.3, 0.7]), 500, 0.5)
    found = s.bradley_terry(first, second, outcome, clusters, 4, DRAWS, 0.95, prior=1e-9)

    def loss(x):
        ability, log_tie = np.append(x[:3], -x[:3].sum()), x[3]
        one, other = ability[first], ability[second]
        middle = log_tie + (one + other) / 2
        own = np.where(outcome == 1, one, np.where(outcome == 0, other, middle))
        return -np.sum(own - np.logaddexp(np.logaddexp(one, other), middle))

    best = optimize.minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-7}).x
    assert found.ability == pytest.approx(np.append(best[:3], -best[:3].sum()), abs=1e-4)
    assert found.tie == pytest.approx(math.exp(best[3]), abs=1e-4)
    assert found.converged
    assert found.separated == ()


def test_bradley_terry_without_ties_is_the_logistic_regression_of_statsmodels():
    model = pytest.importorskip(
        "statsmodels.discrete.discrete_model", reason="statsmodels is not installed (dev extra)"
    )
    first, second, outcome, clusters = matches(np.random.default_rng(11), np.array([-0.5, 0.0, 0.5]), 400)
    design = np.eye(3)[first] - np.eye(3)[second]
    other = model.Logit(outcome, design[:, 1:]).fit(disp=0).params
    found = s.bradley_terry(first, second, outcome, clusters, 3, DRAWS, 0.95, prior=1e-9)
    assert found.ability[1:] - found.ability[0] == pytest.approx(other, abs=1e-5)
    assert found.tie == 0


def test_an_arm_that_always_wins_stays_finite_and_says_so():
    first, second, outcome, clusters = matches(np.random.default_rng(12), np.zeros(4), 200)
    outcome = np.where(first == 2, 1.0, np.where(second == 2, 0.0, outcome))
    outcome[:3] = NAN
    found = s.bradley_terry(first, second, outcome, clusters, 4, DRAWS, 0.95)
    assert found.separated == (2,)
    assert found.converged
    assert found.ability.argmax() == 2
    assert np.isfinite([found.ability, found.low, found.high]).all()
    assert (found.n, found.missing) == (197, 3)
    with pytest.raises(ValueError, match="prior"):
        s.bradley_terry(first, second, outcome, clusters, 4, DRAWS, 0.95, prior=0)
    with pytest.raises(ValueError, match="two different arms"):
        s.bradley_terry(first, first, outcome, clusters, 4, DRAWS, 0.95)


def test_arms_that_never_met_are_separated():
    wins = np.array([[0.0, 5, 0, 0], [4, 0, 0, 0], [0, 0, 0, 5], [0, 0, 1, 0]])
    first, second = np.nonzero(wins)
    repeat = wins[first, second].astype(int)
    first, second = np.repeat(first, repeat), np.repeat(second, repeat)
    found = s.bradley_terry(first, second, np.ones(15), np.arange(15), 4, DRAWS, 0.95)
    assert found.separated == (2, 3)
    assert np.isfinite(fit(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), 0.1)[0]).all()


def test_bradley_terry_interval_covers_95_percent():
    # Fewer resamples make the percentiles themselves uncertain: 200 cost a percent of coverage.
    random, ability, hits = np.random.default_rng(13), np.array([-0.6, 0.0, 0.6]), 0
    draws, confidence = s.Resampler(600, 0), s.expanded_confidence(0.95, 40)
    for _ in range(2000):
        found = s.bradley_terry(*matches(random, ability, 240, 0.3), 3, draws, confidence)
        hits += (found.low <= ability) & (ability <= found.high)
    assert np.all((np.asarray(hits) / 2000 >= 0.93) & (np.asarray(hits) / 2000 <= 0.97))
