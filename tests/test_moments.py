"""Planted arms before points in time: who knows, who denies all, who tells all, who lives at the other stage."""

from __future__ import annotations

import math

import pytest
from plants import subject, told

from persllm.comparison import Components, Scores, Settings
from persllm.metrics import catalogue, moments
from persllm.probes import Evidence
from persllm.statistics import Resampler

NAMES = ("moment_accuracy", "moment_accuracy_pmi")
DENIAL = {"future": 1.0, "past_absence": 1.0, "past_presence": -1.0}


def past_only(probe):
    """Return the lean of who guesses: as often right as wrong, for neither reply denies."""
    places = [one.id for one in moments.probes(subject()) if one.seen["kind"] == "past_only"]
    return 1.0 if places.index(probe.id) % 2 else -1.0


ARMS = {
    "gold": lambda probe: 1.0,
    "denier": lambda probe: DENIAL.get(probe.seen["kind"]) or past_only(probe),
    "teller": lambda probe: -DENIAL[probe.seen["kind"]] if probe.seen["kind"] in DENIAL else past_only(probe),
    "other stage": lambda probe: -1.0,
    "unpersonified": lambda probe: 0.0,
}


def bare(probe, turn):
    """Return what a base model leans to by wording alone: the denial, weakly."""
    return 0.1 * DENIAL.get(probe.seen["kind"], 0.0)


@pytest.fixture(scope="module")
def scores():
    about, found = subject(), Scores()
    probes = moments.probes(about)
    for arm, lean in ARMS.items():
        prior = [] if arm == "unpersonified" else told(probes, bare)
        made = told(probes, lambda probe, turn, lean=lean: lean(probe))
        for one in moments.score(Evidence(about, arm, 0, made, prior=prior)).values:
            key = (about.name, one.item_id)
            found.series.setdefault(arm, {}).setdefault(one.metric, {})[key] = {0: one.value}
            found.clusters.setdefault(one.metric, {})[key] = one.cluster
    return found


def components(scores, name):
    derived = next(one for one in moments.derived() if one.name == name)
    return Components(scores, derived, Settings(0.95, 0.8, Resampler(200, 0)))


@pytest.mark.parametrize("name", NAMES)
def test_who_denies_or_tells_everything_is_at_chance(scores, name):
    made = components(scores, name)
    assert {arm: made.arm_row(arm)["mean"] for arm in list(ARMS)[:4]} == pytest.approx(
        {"gold": 1, "denier": 0.5, "teller": 0.5, "other stage": 0}
    )
    row = made.contrast_row("gold", "denier")
    assert row["low"] > 0
    assert row["p"] < 0.01


def test_the_four_kinds_are_told_apart_and_swapped_ones_are_seen():
    means = [[1.0], [1.0], [0.0], [0.5]]
    assert moments.derived()[0].components[:3] == tuple(f"{kind}_accuracy_pmi" for kind in DENIAL)
    assert moments.balanced(*_draws(means)).tolist() == [0.5]
    assert moments.balanced(*_draws([means[2], *means[1::-1], means[3]])).tolist() == [0.625]


def _draws(means):
    import numpy as np

    return np.array(means), np.ones((4, 1))


def test_an_arm_without_a_prior_has_no_such_figure(scores):
    made = components(scores, "moment_accuracy_pmi")
    assert math.isnan(made.arm_row("unpersonified")["mean"])
    assert math.isnan(made.contrast_row("gold", "unpersonified")["p"])


def test_what_is_made_is_declared_and_one_of_it_heads():
    kinds = {name for one in moments.derived() for name in one.components}
    known = catalogue(["moments"])
    assert set(known) == kinds | set(NAMES)
    assert [name for name, metric in known.items() if metric.headline] == ["moment_accuracy_pmi"]
    assert all(metric.headline or metric.label for metric in known.values())
