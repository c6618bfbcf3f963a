"""An arm is led through probes: turns, options, prefill, samples, resuming, and what scoring sees of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import tiny

from persllm import pack_probes, packs, records
from persllm.asking import hold, rounds
from persllm.errors import UserError
from persllm.metrics import Likelihood
from persllm.probes import Evidence, Probe, Subject, Told, prefers
from persllm.records import Telling
from persllm.speaking import Speaker
from persllm.steps import generate, probe, score

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    return tiny.Lab(folder, tiny.make_model(folder / "model"))


@pytest.fixture(scope="module")
def speaker(lab, tmp_path_factory):
    step = lab.cell("prompt_name").generate
    ctx = lab.context(step, tmp_path_factory.mktemp("speaker") / "generate")
    return Speaker(lab.base(), lab.tokenizer, generate.prompt_source(ctx), step.config)


def talk(**changes):
    fields = {"id": "a", "stage": "early", "cluster": "a", "turns": ["Who are you?", "Are you sure?"]}
    return Probe(**(fields | changes))


def test_every_turn_is_answered_with_what_was_said_before_in_view(speaker):
    (told,) = hold(speaker, [(talk(), 0)], 0)
    assert len(told.replies) == len(told.texts) == 2
    before = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": told.replies[0] or ""}]
    second = speaker.prompt("early", "Are you sure?", before)
    assert told.prompt_tokens == len(speaker.prompt("early", "Who are you?").ids) + len(second.ids)
    assert speaker.speak([second.ids], 0)[0].text == told.texts[1]


def test_options_are_scored_before_the_reply_and_only_where_there_are_any(speaker):
    options = [["Ebenezer Scrooge.", "A kettle."], []]
    (told,) = hold(speaker, [(talk(options=options), 0)], 0)
    assert [len(of) for of in told.likelihoods] == [2, 0]
    found = Told(talk(options=options), told).likelihoods(0)
    assert [one.tokens for one in found] == [len(speaker.ids(text)) for text in options[0]]
    assert all(one.total < 0 for one in found)


def test_a_last_turn_of_which_only_the_options_matter_is_not_answered(speaker):
    (told,) = hold(speaker, [(talk(options=[[], ["yes", "no"]], closing=False), 0)], 0)
    assert len(told.replies) == 1
    assert [len(of) for of in told.likelihoods] == [0, 2]


def test_a_prefill_begins_the_last_reply(speaker):
    (told,) = hold(speaker, [(talk(prefill="As a machine, I"), 0)], 0)
    assert told.replies[1].startswith("As a machine, I")
    assert not told.texts[0].startswith("As a machine, I")


def test_the_oldest_turns_are_forgotten_where_they_do_not_fit(speaker):
    asked = [f"Question {number}: {'why ' * 40}?" for number in range(6)]
    narrow = Speaker(speaker.model, speaker.tokenizer, speaker.source, json.loads(json.dumps(speaker.config)))
    narrow.config["model"]["max_length"] = 260
    (told,) = hold(narrow, [(talk(turns=asked), 0)], 0)
    assert told.forgotten > 0
    assert len(told.replies) == 6
    # What is asked now, and the arm's own prompt, take nothing of that memory.
    assert narrow.prompt("early", "why " * 400).forgotten == 0
    with pytest.raises(UserError, match=r"lower method\.prompt's shots or words"):
        narrow.prompt("early", "why " * 9000)


def test_groups_are_the_same_whatever_the_order_and_samples_are_apart():
    probes = [talk(id=name, turns=["?"] * length) for name, length in (("a", 1), ("b", 3), ("c", 2))]
    probes.append(talk(id="d", samples=2))
    once, again = rounds(probes, 2), rounds(probes[::-1], 2)
    assert [[(one.id, sample) for one, sample in group] for group in once] == [
        [("b", 0), ("c", 0)],
        [("a", 0)],
        [("d", 0), ("d", 1)],
    ]
    assert once == again


def test_samples_differ_and_are_drawn_by_the_seed(speaker):
    group = [(talk(samples=2), 0), (talk(samples=2), 1)]
    first, second = hold(speaker, group, 7)
    assert first.texts != second.texts
    assert [asdict(one) | {"seconds": 0} for one in (first, second)] == [
        asdict(one) | {"seconds": 0} for one in hold(speaker, group, 7)
    ]


def test_step_probe_goes_on_where_it_was_stopped(lab, tmp_path):
    words = ("evaluate.metrics=[likelihood,moments]", "evaluate.limit=2", "generate.batch_size=4")
    step = lab.cell("prompt_name", *words).scores[0].inputs["probe"]
    whole = lab.context(step, tmp_path / "whole")
    probe.run(whole)
    lines = (whole.out / "tellings.jsonl").read_text().splitlines()
    assert lines
    torn = lab.context(step, tmp_path / "torn")
    (torn.work / "tellings.jsonl").write_text("\n".join(lines[:3]) + '\n{"probe_id": "x"')
    probe.run(torn)
    timeless = [
        [json.loads(line) | {"seconds": 0} for line in (ctx.out / "tellings.jsonl").read_text().splitlines()]
        for ctx in (whole, torn)
    ]
    assert timeless[0] == timeless[1]


def test_a_step_probe_that_lacks_nothing_loads_no_weights(lab, tmp_path, monkeypatch):
    """Also where a reply holds what Unicode calls the end of a line."""
    step = (
        lab.cell("prompt_name", "evaluate.metrics=[likelihood,moments]", "evaluate.limit=2").scores[0].inputs["probe"]
    )
    whole = lab.context(step, tmp_path / "whole")
    probe.run(whole)
    made = records.read(Telling, whole.out / "tellings.jsonl")
    made[0] = replace(made[0], replies=["one\u2028two\x85three"], texts=["one\u2028two\x85three"])
    again = lab.context(step, tmp_path / "again")
    (again.work / "tellings.jsonl").write_text("".join(map(records.to_line, made)), encoding="utf-8")
    monkeypatch.setattr(generate, "load_arm", lambda *_: pytest.fail("loads weights"))
    probe.run(again)
    assert records.read(Telling, again.out / "tellings.jsonl") == made


def test_step_score_says_what_a_persona_lacks(lab, tmp_path):
    step = lab.cell("prompt_name", "evaluate.metrics=[likelihood,moments]", "evaluate.limit=2").scores[0]
    ctx = lab.context(step, tmp_path / "score")
    score.run(ctx)
    rows = [json.loads(line) for line in (ctx.out / "scores.jsonl").read_text().splitlines()]
    metrics = {row["metric"] for row in rows}
    assert {"future_accuracy", "future_accuracy_pmi", "past_only_accuracy"} <= metrics
    assert {row["value"] for row in rows} <= {0.0, 1.0}


def told(options, right, kind="future"):
    pair = [[-10.0, 10], [-20.0, 10]] if right else [[-20.0, 10], [-10.0, 10]]
    asked = talk(turns=["?"], options=[options], closing=False, seen={"kind": kind})
    return Told(asked, Telling(
        probe_id="a", sample=0, replies=[], texts=[], likelihoods=[pair], forgotten=0, prompt_tokens=1, tokens=0,
        seconds=0.0,
    ))  # fmt: skip


def subject(rows=None, limit=None):
    card = packs.load_card(packs.folder("scrooge"))
    return Subject("scrooge", card, [], {}, rows or {}, limit)


@pytest.mark.parametrize("right", [True, False])
def test_moments_move_with_the_likelier_reply(right):
    from persllm.metrics import moments

    seen = Evidence(subject(), "x", 0, [told(["r", "w"], right)], prior=[told(["r", "w"], not right)])
    values = {one.metric: one.value for one in moments.score(seen).values}
    assert values == {"future_accuracy": right, "future_accuracy_pmi": right}


def test_a_tie_is_chance():
    even = [Likelihood(-10.0, 10), Likelihood(-20.0, 20)]
    assert prefers(even) == 0.5
    assert prefers(even[:1]) is None


def test_a_limit_takes_the_same_rows_whatever_their_order():
    rows = [{"id": name} for name in "abcdefgh"]
    few = subject(limit=3)
    assert len(few.few(rows)) == 3
    assert {row["id"] for row in few.few(rows)} == {row["id"] for row in few.few(rows[::-1])}
    assert subject().few(rows) == rows


STANCE = {
    "id": "early-s01", "topic": "rain", "question": "Rain?", "paraphrases": ["a", "b"], "either": ["c", "d"],
    "keep": "No.", "flip": "Yes.", "differs": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"keep": ""}, "'keep' should be a text"),
        ({"either": ["c"]}, "'either' should be a list of two texts"),
        ({"kept": "x"}, r"unknown field 'kept' \(.*did you mean 'keep'"),
        ({"differs": 1}, "'differs' should be true or false"),
    ],
)
def test_bad_probe_rows_are_named_by_file_and_line(tmp_path, change, told):
    (tmp_path / "early").mkdir()
    lines = [json.dumps(STANCE), json.dumps(STANCE | {"id": "early-s02"} | change)]
    (tmp_path / "early" / "stances.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"stances\.jsonl:2: .*{told}"):
        pack_probes.read(tmp_path, ["early", "late"])


def test_shipped_probe_files_are_whole():
    for root in sorted(path for path in packs.SHIPPED.iterdir() if path.is_dir()):
        stages = list(packs.load_card(root).stages)
        found = pack_probes.read(root, stages)
        assert {kind: {stage: len(rows) for stage, rows in of.items()} for kind, of in found.items()} == {
            "stances": dict.fromkeys(stages, 12),
            "moments": dict.fromkeys(stages, 20),
            "premises": dict.fromkeys(stages, 12),
        }


def test_an_arm_that_is_its_own_prior_is_at_chance():
    options = [Likelihood(-9.0, 3), Likelihood(-8.0, 4)]
    assert prefers(options) == 0.0
    assert prefers(options[::-1]) == 1.0
    assert prefers(options, options) == 0.5
