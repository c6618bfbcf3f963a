"""Seeds as a random effect, variance components and power: against simulation and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from persllm import statistics as s

WITHOUT = "statsmodels is not installed (dev extra)"


def study(random, plan, effect=0.0, arms_seed=(1.0, 1.0)):
    """Return two arms (items x seeds) with the plan's variances, and each item's persona and cluster.

    The paired difference has ``between`` and ``within``; ``seed`` and ``residual`` are shared out to both arms alike.
    """
    clusters = np.repeat(np.arange(plan.clusters), plan.items_per_cluster)
    groups, count = clusters * plan.personas // plan.clusters, len(clusters)
    shared = random.normal(0, 1, plan.clusters)[clusters] + random.normal(0, 1, count)
    own = random.normal(0, plan.between**0.5, plan.clusters)[clusters] + random.normal(0, plan.within**0.5, count)
    sides = []
    for lift, weight in zip((own + effect, np.zeros(count)), arms_seed, strict=True):
        models = random.normal(0, (plan.seed / 2 * weight) ** 0.5, (plan.personas, plan.seeds))[groups]
        noise = random.normal(0, (plan.residual / 2) ** 0.5, (count, plan.seeds))
        sides.append((shared + lift)[:, None] + models + noise)
    return sides, groups, clusters


SEEDED = s.Plan(40, 2, 0.3, 0.5, seeds=3, personas=4, seed=0.08, residual=0.5)


def test_mixed_seeds_give_uniform_p_for_identical_arms_where_the_sign_flip_does_not():
    random, mixed, flipped = np.random.default_rng(1), [], []
    plan = s.Plan(36, 2, 0.3, 0.5, seeds=5, personas=2, seed=0.2, residual=0.3)
    for trial in range(1000):
        sides, groups, clusters = study(random, plan)
        mixed.append(s.mixed_difference(*sides, groups, clusters, 0.95).p)
        differences = s.item_means(sides[0]) - s.item_means(sides[1])
        flipped.append(s.sign_flip_p(differences, clusters, 499, trial))
    assert stats.kstest(mixed, "uniform").pvalue > 0.01
    assert 0.03 <= np.mean(np.array(mixed) <= 0.05) <= 0.065
    assert np.mean(np.array(flipped) <= 0.05) > 0.1


@pytest.mark.parametrize("seed", [0.0, 0.02, 0.3])
def test_mixed_interval_covers_95_percent(seed):
    random, hits = np.random.default_rng(2), 0
    plan = s.Plan(40, 2, 0.3, 0.5, seeds=3, personas=4, seed=seed, residual=0.5)
    for _ in range(2000):
        sides, groups, clusters = study(random, plan, 0.4)
        found = s.mixed_difference(*sides, groups, clusters, 0.95)
        hits += found.low <= 0.4 <= found.high
    assert 0.93 <= hits / 2000 <= 0.97


def test_mixed_without_seeds_is_the_clustered_t_test():
    random = np.random.default_rng(3)
    first, second, clusters = random.normal(0.2, 1, (30, 1)), random.normal(0, 1, (30, 1)), np.arange(30)
    found = s.mixed_difference(first, second, np.zeros(30, dtype=np.int64), clusters, 0.9)
    other = stats.ttest_rel(first[:, 0], second[:, 0])
    assert (found.p, found.degrees) == pytest.approx((other.pvalue, 29))
    assert (found.low, found.high) == pytest.approx(tuple(other.confidence_interval(0.9)))
    assert found.seeds_counted == (False, False)


def test_mixed_counts_what_differs_between_models_and_leaves_missing_items_out():
    sides, groups, clusters = study(np.random.default_rng(4), SEEDED)
    found = s.mixed_difference(*sides, groups, clusters, 0.95)
    alone = s.mixed_difference(sides[0], sides[1][:, :1], groups, clusters, 0.95)
    assert (found.seeds_counted, alone.seeds_counted) == ((True, True), (True, False))
    naive = s.clustered_standard_error(s.item_means(sides[0]) - s.item_means(sides[1]), clusters)
    assert found.standard_error > naive
    sides[0][5], sides[1][6, 1] = np.nan, np.nan
    less = s.mixed_difference(*sides, groups, clusters, 0.95)
    assert less.n_items == 79
    assert less.difference == pytest.approx(found.difference, abs=0.1)
    same = s.mixed_difference(sides[1], sides[1], groups, clusters, 0.95)
    assert (same.difference, same.p) == (0, 1) or same.p == pytest.approx(1)


@pytest.mark.filterwarnings("ignore")
def test_mixed_agrees_with_statsmodels_mixedlm():
    """One persona, balanced, all components well above zero: the method of moments is REML."""
    linear = pytest.importorskip("statsmodels.regression.mixed_linear_model", reason=WITHOUT)
    items, seeds = 20, 4
    plan = s.Plan(items, 1, 1.0, 0.0, seeds=seeds, seed=1.0, residual=0.6)
    sides, groups, clusters = study(np.random.default_rng(10), plan, 0.5)
    found, parts = s.mixed_difference(*sides, groups, clusters, 0.95), s.components(*sides, groups, clusters)
    arm, item, seed = (x.ravel() for x in np.indices((2, items, seeds)))
    values = np.array(sides).ravel()
    # Items twice: shared by the arms, and each arm's own; models are arm x seed.
    kinds = [item, arm * items + item, arm * seeds + seed]
    names = ["item", "arm_item", "model"]
    columns = [(kind[:, None] == np.unique(kind)).astype(float) for kind in kinds]
    covered = linear.VCSpec(names, [[[str(i) for i in np.unique(k)]] for k in kinds], [[c] for c in columns])
    design = np.column_stack([np.ones(len(arm)), arm == 0]).astype(float)
    model = linear.MixedLM(values, design, np.zeros(len(arm)), exog_re=None, exog_vc=covered)
    fitted = model.fit(reml=True, method=["lbfgs", "powell"])
    assert found.difference == pytest.approx(fitted.fe_params[1], abs=1e-6)
    variance = dict(zip(model.exog_vc.names, fitted.vcomp, strict=True))
    reml = 2 * variance["arm_item"] / items + 2 * variance["model"] / seeds + 2 * fitted.scale / (items * seeds)
    assert found.standard_error == pytest.approx(math.sqrt(reml), rel=0.01)
    assert parts.residual == pytest.approx(2 * fitted.scale, rel=0.02)
    assert parts.seed == pytest.approx(2 * variance["model"], rel=0.02)
    assert parts.between == pytest.approx(2 * variance["arm_item"], rel=0.02)


def test_components_are_those_that_were_planted():
    random = np.random.default_rng(5)
    plan = s.Plan(40, 3, 0.6, 1.0, seeds=4, personas=4, seed=0.3, residual=0.5)
    found = []
    for _ in range(300):
        sides, groups, clusters = study(random, plan)
        found.append(s.components(*sides, groups, clusters))
    assert np.mean(found, axis=0) == pytest.approx([0.6, 1.0, 0.3, 0.5], rel=0.08)


@pytest.mark.parametrize(
    ("plan", "effect"),
    [
        (s.Plan(30, 2, 0.5, 2.0), 0.5),
        (s.Plan(60, 1, 0.0, 1.0), 0.36),
        (s.Plan(40, 3, 0.3, 1.0, seeds=3, personas=4, seed=0.08, residual=0.5), 0.4),
    ],
)
def test_planted_effects_are_found_with_the_predicted_power(plan, effect):
    """By the mixed test; where there are no seeds, by the sign flip that the comparison uses too."""
    random, mixed, flipped = np.random.default_rng(6), 0, 0
    for trial in range(1000):
        sides, groups, clusters = study(random, plan, effect, (2.0, 0.0))
        mixed += s.mixed_difference(*sides, groups, clusters, 0.95).p <= 0.05
        if plan.seeds == 1:
            flipped += s.sign_flip_p((sides[0] - sides[1])[:, 0], clusters, 499, trial) <= 0.05
    predicted = s.planned_power(plan, effect, 0.95)
    assert mixed / 1000 == pytest.approx(predicted, abs=0.05)
    if plan.seeds == 1:
        assert flipped / 1000 == pytest.approx(predicted, abs=0.05)


def test_power_agrees_with_statsmodels():
    power = pytest.importorskip("statsmodels.stats.power", reason=WITHOUT).TTestPower()
    for clusters, effect in ((10, 0.5), (40, 0.3), (200, 0.2)):
        plan = s.Plan(clusters, 1, 4.0, 0.0)
        other = power.power(effect / 2, clusters, 0.05)
        assert s.planned_power(plan, effect, 0.95) == pytest.approx(other, abs=1e-6)
        assert s.planned_detectable(plan, 0.95, other) == pytest.approx(effect, rel=1e-6)
    needed = math.ceil(power.solve_power(0.25, power=0.8, alpha=0.05))
    assert s.required_size(s.Plan(5, 1, 4.0, 0.0), 0.5, 0.95, 0.8) == (needed, needed)


def test_planned_error_is_the_error_that_a_study_has():
    random, found = np.random.default_rng(7), []
    for _ in range(2000):
        sides, _, _ = study(random, SEEDED)
        found.append(float(sides[0].mean() - sides[1].mean()))
    assert s.planned_standard_error(SEEDED) == pytest.approx(np.std(found), rel=0.05)


def test_no_number_of_items_mends_too_few_models():
    assert s.required_size(SEEDED, 0.05, 0.95, 0.8) is None
    clusters, items = s.required_size(SEEDED, 0.5, 0.95, 0.8) or (0, 0)
    assert items == 2 * clusters > 0
    for wrong in (lambda: s.Plan(1, 1, 1, 1), lambda: s.Plan(5, 1, -1, 1), lambda: s.Plan(5, 1, 1, 1, seed=0.1)):
        with pytest.raises(ValueError, match="plan"):
            wrong()


def test_clustered_error_is_that_of_statsmodels_glm():
    model = pytest.importorskip("statsmodels.genmod.generalized_linear_model", reason=WITHOUT)
    random = np.random.default_rng(8)
    clusters = random.integers(0, 15, 70)
    values = random.normal(0, 1, 15)[clusters] + random.normal(0, 1, 70)
    options = {"groups": clusters, "use_correction": False}
    fitted = model.GLM(values, np.ones((70, 1))).fit(cov_type="cluster", cov_kwds=options)
    count = len(np.unique(clusters))
    # Ours also has the factor K / (K - 1).
    expected = float(fitted.bse[0]) * math.sqrt(count / (count - 1))
    assert s.clustered_standard_error(values, clusters) == pytest.approx(expected)
