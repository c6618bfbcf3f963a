"""The capability guard: who is asked, in which frame, and which way its numbers move."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
from test_probes import subject

from persllm.asking import hold, rounds
from persllm.metrics import capability
from persllm.probes import Evidence, Probe, Told
from persllm.prompting import GENERIC
from persllm.records import Telling
from persllm.speaking import Speaker
from persllm.steps import generate


def telling(probe: Probe, right: bool) -> Told:
    low, high = [-30.0, 10], [-10.0, 10]
    likelihoods = [[high if right else low, *([low if right else high] * (len(probe.options[0]) - 1))]]
    one = Telling(
        probe_id=probe.id, sample=0, replies=[], texts=[], likelihoods=likelihoods, forgotten=0, prompt_tokens=1,
        tokens=0, seconds=0.0,
    )  # fmt: skip
    return Told(probe, one)


def means(told: list[Told]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for value in capability.score(Evidence(subject(), "x", 0, told)).values:
        assert value.value is not None
        found.setdefault(value.metric, []).append(value.value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def test_each_question_is_asked_with_and_without_the_role_and_each_paragraph_is_read_on():
    probes = capability.probes(subject())
    assert len(probes) == 120 * 2 + 40
    assert {probe.frame: 0 for probe in probes}.keys() == {"neutral", "role", "raw"}
    assert all(len(probe.options[0]) == (1 if probe.frame == "raw" else 4) for probe in probes)
    assert all(len(set(probe.options[0])) == len(probe.options[0]) for probe in probes)
    assert {probe.stage for probe in probes if probe.frame == "role"} == {"early", "late"}
    few = capability.probes(dataclasses.replace(subject(), limit=2))
    assert len(few) == 8 * 2 * 2 + 2


def test_the_right_option_is_first_and_knowing_it_counts():
    from persllm.probes import data

    rows = {row["id"]: row for row in data("general_choice.jsonl")}
    probes = capability.probes(subject())
    for probe in probes:
        if probe.frame != "raw":
            row = rows[probe.cluster]
            assert probe.options[0][0] == row["options"][row["answer"]]
    scholar, dunce = (means([telling(probe, right) for probe in probes]) for right in (True, False))
    assert scholar["general_accuracy"] == scholar["role_accuracy"] == 1
    assert dunce["general_accuracy"] == dunce["role_accuracy"] == 0
    assert scholar["general_log_likelihood"] > dunce["general_log_likelihood"]


def test_a_role_that_refuses_to_know_is_told_from_weights_that_do_not():
    probes = capability.probes(subject())
    found = means([telling(probe, probe.frame != "role") for probe in probes])
    assert (found["general_accuracy"], found["role_accuracy"]) == (1, 0)


@pytest.mark.pipeline
def test_frames_ask_the_same_weights_with_and_without_the_role(tmp_path):
    lab = tiny.Lab(tmp_path, tiny.make_model(tmp_path / "model"))
    step = lab.cell("prompt_profile").generate
    ctx = lab.context(step, tmp_path / "generate")
    speaker = Speaker(lab.base(), lab.tokenizer, generate.prompt_source(ctx), step.config)
    asked = "Which is heavier?"
    role, neutral, raw = (speaker.framed(frame).prompt("early", asked) for frame in ("role", "neutral", "raw"))
    assert "Scrooge" in role.messages[0]["content"]
    assert neutral.messages[0] == {"role": "system", "content": GENERIC}
    assert raw.ids == speaker.ids(asked)
    analysing = dataclasses.replace(speaker, config=speaker.config | {"tune": {"analysis": True}})
    assert analysing.framed("role").analyses
    assert not analysing.framed("neutral").analyses
    probes = [
        Probe(id=frame, stage="early", cluster="a", turns=[asked], options=[["A."]], closing=False, frame=frame)
        for frame in ("role", "neutral", "raw")
    ]
    groups = rounds(probes, 8)
    assert [[probe.frame for probe, _ in group] for group in groups] == [["neutral"], ["raw"], ["role"]]
    totals = [told.likelihoods[0][0][0] for group in groups for told in hold(speaker, group, 0)]
    assert len(set(totals)) == 3
