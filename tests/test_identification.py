"""Who speaks, and when: planted replies of all six shipped personas are told apart in the right order."""

from __future__ import annotations

import dataclasses
import functools
import random
from hashlib import sha256

import numpy as np
import pytest
from bland import BLAND

from persllm import packs
from persllm.metrics import identification
from persllm.metrics.identification import Namer
from persllm.probes import Evidence, Subject
from persllm.records import Generation

SHIPPED = sorted(path.name for path in packs.SHIPPED.iterdir() if path.is_dir())


@functools.cache
def pack(name):
    return packs.load(packs.folder(name))


def held(material_id):
    """Return whether a paragraph is held out, about one in five."""
    return sha256(material_id.encode()).digest()[0] % 5 == 0


def items(name):
    return [item for item in pack(name).items if held(item.material_id)]


def evidence(name, said, personas=SHIPPED, of=None):
    """Return what scoring sees of a persona whose replies to held-out items are given by item id."""
    of = of or items(name)
    replies = [
        Generation(
            item_id=item.id, arm="x", seed=0, persona=name, stage=item.stage, prompt_tokens=1, text=said[item.id] or "",
            analysis=None, response=said[item.id], finish_reason="eos", tokens=1, seconds=0.0,
        )
        for item in of
    ]  # fmt: skip
    paragraphs = {one: pack(one).materials for one in personas}
    paragraphs[name] = [one for one in paragraphs[name] if not held(one.id)]
    about = Subject(name, pack(name).card, of, {}, {})
    return Evidence(about, "x", 0, [], paragraphs=paragraphs, replies=replies)


def plants(name):
    """Return replies to a persona's held-out items, by what speaks, in the order in which they should score."""
    own = items(name)
    again = {one.item_id: one.response for one in pack(name).reanswers}
    other = items(SHIPPED[(SHIPPED.index(name) + 1) % len(SHIPPED)])
    drawn = random.Random(name)
    anyone = [one.response for each in SHIPPED for one in items(each)]
    return {
        "gold": {item.id: item.response for item in own},
        "other stage": {item.id: again[item.id] for item in own},
        "anybody": {item.id: drawn.choice(anyone) for item in own},
        "bland": {item.id: drawn.choice(BLAND) for item in own},
        "one text": {item.id: BLAND[1] for item in own},
        "another": {item.id: other[place % len(other)].response for place, item in enumerate(own)},
    }


def means(values):
    return {
        metric: float(np.mean([one.value for one in values if one.metric == metric]))
        for metric in dict.fromkeys(one.metric for one in values)
    }


@pytest.fixture(scope="module")
def shares():
    """Return by what speaks and by metric its share in each persona; all plants of one are scored in one go."""
    found = {}
    for name in SHIPPED:
        planted = plants(name)
        of = [dataclasses.replace(item, id=f"{plant}/{item.id}") for plant in planted for item in items(name)]
        said = {f"{plant}/{item}": text for plant, texts in planted.items() for item, text in texts.items()}
        values = identification.score(evidence(name, said, of=of)).values
        for plant in planted:
            told = means([one for one in values if one.item_id.startswith(f"{plant}/")])
            for metric, share in told.items():
                found.setdefault(plant, {}).setdefault(metric, []).append(share)
    return found


def test_personas_are_told(shares):
    """Measured: gold 0.81, the other stage 0.85, anybody 0.18, bland 0.18, another 0.02."""
    person = {plant: float(np.mean(of["person_identified"])) for plant, of in shares.items()}
    assert min(shares["gold"]["person_identified"]) > 0.4
    assert person["gold"] > 0.65
    assert abs(person["other stage"] - person["gold"]) < 0.1
    assert abs(person["anybody"] - 1 / 6) < 0.1
    assert abs(person["bland"] - 1 / 6) < 0.1
    assert person["another"] < 0.1
    # One text is somebody's, and mostly the same one's whoever is asked.
    assert person["one text"] == pytest.approx(1 / 6, abs=0.17)
    assert set(shares["one text"]["person_identified"]) <= {0.0, 1.0}


def test_stages_are_told(shares):
    """Measured: gold 0.94 (Scrooge's early self 0.64 of 28), the other stage 0.03; who is of no stage is at chance."""
    stage = {plant: float(np.mean(of["stage_identified"])) for plant, of in shares.items()}
    assert stage["gold"] > 0.85
    assert min(shares["gold"]["stage_identified"]) > 0.6
    assert max(shares["other stage"]["stage_identified"]) < 0.15
    for plant in ("anybody", "bland", "one text"):
        assert abs(stage[plant] - 0.5) < 0.1, plant


def test_a_persona_of_few_paragraphs_is_named_too():
    """Brannoch has a fifth of the others' speech: the likeliest label alone would nearly never be his."""
    speech = {name: [one for one in pack(name).materials if one.kind == "speech"] for name in SHIPPED}
    speech["brannoch"] = [one for one in speech["brannoch"] if not held(one.id)]
    namer = Namer(speech, "brannoch", ["Brannoch", "Tull"])
    masked = [namer.masker.masked(item.response) for item in items("brannoch")]
    plain = [dict(zip(namer.classifier.labels, namer.order, strict=True))[code] for code in
             namer.classifier.named(masked)]  # fmt: skip
    assert np.mean([persona == "brannoch" for persona, _ in plain]) < 0.4
    told = namer.named([item.response for item in items("brannoch")], set(namer.labels))
    assert np.mean([persona == "brannoch" for persona, _ in told]) > 0.7


def test_the_ceiling_is_the_recorded_answers_own_share():
    found = identification.score(evidence("scrooge", plants("scrooge")["gold"]))
    figures = {one.metric: one for one in found.figures}
    for metric, share in means(found.values).items():
        assert figures[f"{metric}_gold"].value == pytest.approx(share)
        assert figures[f"{metric}_gold"].n == len(items("scrooge"))
    assert "1 in 6" in figures["person_identified_gold"].note
    assert "1 in 2" in figures["stage_identified_gold"].note
    assert not found.notes


def test_a_reply_is_judged_by_itself_and_the_same_each_time():
    gold = plants("ottoline")["gold"]
    whole = {one.item_id: one.value for one in identification.score(evidence("ottoline", gold)).values}
    mixed = {item: text if place % 2 else "Bob the " * 9 for place, (item, text) in enumerate(gold.items())}
    again = {one.item_id: one.value for one in identification.score(evidence("ottoline", mixed)).values}
    odd = list(gold)[1::2]
    assert {item: whole[item] for item in odd} == {item: again[item] for item in odd}


def test_a_reply_without_a_response_is_missing():
    said = plants("scrooge")["gold"]
    first = next(iter(said))
    found = identification.score(evidence("scrooge", said | {first: None}))
    assert [one.value for one in found.values if one.item_id == first] == [None, None]
    assert sum(one.value is None for one in found.values) == 2


def test_names_do_not_tell():
    """Bland texts full of the names of a persona's world are named no other than with any names in their place."""
    speech = {name: [one for one in pack(name).materials if one.kind == "speech"] for name in SHIPPED}
    namer = Namer(speech, "elizabeth", ["Elizabeth", "Bennet"])

    def named(first, second):
        said = f"I said it to {first} and {second}, to Mr. {second} and {first}"
        return namer.named([f"{said}: {text[0].lower()}{text[1:]}" for text in BLAND], set(namer.labels))

    assert named("Jane", "Darcy") == named("Fred", "Bert") == named("Marley", "Mercedes")


def test_what_was_held_out_of_one_is_held_out_of_all_alike():
    speech = {name: [one for one in pack(name).materials if one.kind == "speech"] for name in SHIPPED}
    left = [one for one in speech["dantes"] if not held(one.id)]
    share = len(left) / len(speech["dantes"])
    learnt = [persona for (persona, _), _ in identification._labelled(speech | {"dantes": left}, "dantes")]
    assert share < 0.9
    for name in SHIPPED:
        assert learnt.count(name) == pytest.approx(share * len(speech[name]), abs=2)
    assert learnt.count("dantes") == len(left)


def test_what_cannot_be_told_is_said():
    seen = evidence("scrooge", plants("scrooge")["gold"], ["scrooge"])
    found = identification.score(seen)
    assert not found.values
    assert "nobody was identified" in found.notes[0]
    seen = evidence("scrooge", plants("scrooge")["gold"])
    early = [one for one in seen.paragraphs["scrooge"] if one.stage == "early"]
    found = identification.score(dataclasses.replace(seen, paragraphs=seen.paragraphs | {"scrooge": early}))
    assert {one.metric for one in found.values} == {"person_identified"}
    assert found.notes == [
        "scrooge: no speech paragraphs of late to learn from",
        "scrooge: fewer than two stages to tell apart",
    ]
