"""Voices are told apart where they are there, and by nothing that was held out."""

import dataclasses
import random

import pytest

from persllm import packs
from persllm.checks import counting, reading, voice
from persllm.checks.voice import Spoken
from persllm.voice import Masker, identify, mask

SHIPPED = sorted(p.name for p in packs.SHIPPED.iterdir() if p.is_dir())


def test_names_are_masked():
    texts = ["Bob met Mr. Penhale at noon.", "Penhale laughed. The rose grew.", "A red Rose, I say, and Rose's."]
    assert mask(texts, ["Bob"]) == [
        "somename met somename . somename at noon .",
        "somename laughed . The rose grew .",
        "A red somename , I say , and somename .",
    ]


def test_names_are_those_of_the_texts_that_show_them():
    """Whatever is masked beside it, a text is masked alike; a capital inside its own sentence is enough."""
    masker = Masker(["He met Penhale. Rose is here, and the rose too."], ["Bob"])
    assert masker.masked("Penhale’s hat; Bob saw Tom. Tom ran. Rose ran.") == (
        "somename hat ; somename saw somename . Tom ran . Rose ran ."
    )


def babble(label, words, count, seed, start=0):
    made = random.Random(seed)
    return [
        Spoken(label, " ".join(made.choices(words, k=12)) + ".", f"{label}{start + i}") for i in range(count)
    ]  # fmt: skip


def test_two_voices_are_told_apart_and_one_is_not():
    small, grand = ["the", "sea", "is", "cold", "and", "dark"], ["my", "dear", "sir", "upon", "vellum", "the", "and"]
    speech = [*babble("a", small, 20, 1), *babble("b", grand, 20, 2)]
    apart = voice.held_out(speech, [*babble("a", small, 30, 3), *babble("b", grand, 30, 4)], [])
    assert apart is not None
    assert apart.accuracy > 0.95
    assert apart.p < 1e-9
    assert (apart.chance, apart.tested) == (0.5, 60)
    alike = voice.held_out([*babble("a", small, 20, 1), *babble("b", small, 20, 2)],
                           [*babble("a", small, 30, 3), *babble("b", small, 30, 4)], [])  # fmt: skip
    assert alike is not None
    assert alike.p > 0.01


def test_a_response_is_held_out_from_the_paragraph_it_repeats():
    """Paragraphs of random words, and responses that repeat them: only a classifier that saw them could tell."""
    words = [f"w{i}" for i in range(400)]
    speech = [*babble("a", words, 40, 1), *babble("b", words, 40, 2)]
    found = voice.held_out(speech, speech, [])
    assert found is not None
    assert found.p > 0.001
    seen = [(one.label, one.text) for one in speech]
    assert identify(seen, seen)[0] == 1.0


def test_a_response_is_held_out_from_what_was_retrieved_for_it():
    """The same, where a response repeats a paragraph that was retrieved and not the one its question came from."""
    words = [f"w{i}" for i in range(400)]
    speech = [*babble("a", words, 40, 1), *babble("b", words, 40, 2)]
    copied = [dataclasses.replace(one, material="k", retrieved=frozenset({one.material, "k"})) for one in speech]
    found = voice.held_out(speech, copied, [])
    assert found is not None
    assert (found.tested, found.untried) == (80, 0)
    assert found.p > 0.001
    unknown = voice.held_out(speech, [dataclasses.replace(one, retrieved=frozenset()) for one in copied], [])
    assert unknown is not None
    assert unknown.accuracy > 0.7


def test_what_was_retrieved_is_held_out_of_every_speaker_alike():
    """It is the right speaker's: without it alone, even what leaks nothing would teach who does not speak."""
    speech = [Spoken(label, "x", f"{label}{n}") for label in "ab" for n in range(40)]
    told = [
        Spoken(label, "y", f"k{n}", frozenset(f"{label}{(n + i) % 40}" for i in range(6)))
        for label in "ab"
        for n in range(100)
    ]
    rounds = voice._rounds(speech, told)
    assert sorted(place for _, places in rounds for place in places) == list(range(200))
    for held, places in rounds:
        assert all(told[place].retrieved <= held for place in places)
        fold = {one.material for one in speech if voice._fold(one.material) == voice._fold(told[places[0]].material)}
        assert fold <= held
        left = [{name for name in (one.material for one in speech) if name[0] == label} - fold for label in "ab"]
        first, second = (len(held & names) / len(names) for names in left)
        assert abs(first - second) <= 1 / min(map(len, left))
    assert len(rounds) < 200


@pytest.mark.parametrize("pack", SHIPPED)
def test_the_stages_of_a_shipped_pack_have_voices(pack):
    data = reading.read(pack)
    found = voice.stages(data, counting.names(data))
    assert found is not None
    assert found.p < 1e-4
    assert found.untried == 0


def test_the_shipped_personas_have_voices():
    several = [reading.read(pack) for pack in SHIPPED]
    found = voice.speakers(several, [name for data in several for name in counting.names(data)])
    assert found is not None
    assert found.labels == SHIPPED
    assert found.p < 1e-9
    assert found.accuracy > found.chance + 0.2
