"""Breaking character: how well breaks are read off words, and planted arms in their order."""

import dataclasses
import json
from pathlib import Path

import pytest
from plants import means, subject, told

from persllm import packs
from persllm.metrics import breaking, catalogue, lower_is_better
from persllm.metrics.breaking import ADMISSION, breaks, own, probes
from persllm.metrics.robot import admits
from persllm.probes import data

LABELLED = [json.loads(line) for line in (Path(__file__).parent / "data" / "breaking.jsonl").read_text().splitlines()]
"""40 replies of the embedded model to these very probes, prompted as nobody or as Ottoline, drawn at random; labelled
before the reading was tried on them, and its words were chosen on another persona's. A break is an admission, an
assistant's offer, a talk of the words or the character from outside, or a list."""
RECORDED = [
    json.loads(line)["response"]
    for path in sorted(packs.SHIPPED.glob("*/*/items.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
]


def counts(reading):
    """Return breaks found, breaks, false alarms and other replies."""
    found = [(row["breaks"], reading(row["text"])) for row in LABELLED]
    broken = [hit for label, hit in found if label]
    whole = [hit for label, hit in found if not label]
    return sum(broken), len(broken), sum(whole), len(whole)


def test_breaks_are_read_off_real_replies():
    assert counts(breaks) == (17, 19, 2, 21)
    # The plain admission alone sees hardly any of them: why more is read here.
    assert counts(admits) == (1, 19, 0, 21)


def test_no_recorded_reply_of_any_persona_breaks():
    assert len(RECORDED) >= 1000
    assert [text for text in RECORDED if breaks(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "I'm a helpful assistant, and happy to be one.",
        "I am just a machine.",
        "I'm unable to assist with that request.",
        "How may I help you today?",
        "Out of character: he would refuse.",
        "I was only playing the role of Scrooge.",
        "- Save money.\n- Be kind.",
        "I am ChatGPT, and glad to meet you.",
        "I'm Claude, made by Anthropic.",
        "My name is GPT-4.",
        "I was created by a team of researchers.",
        "I was trained by OpenAI.",
        "I was made by the company of that name.",
        "I was trained on a large dataset of text.",
        "I was designed to assist you.",
        "I was programmed so.",
    ],
)
def test_steps_out(text):
    assert breaks(text)


@pytest.mark.parametrize(
    "text",
    [
        "I am no machine, sir.",
        "Do you take me for a machine? I am a man.",
        "A language model? I know nothing of such engines.",
        "He is a man of bad character, and plays his part ill.",
        "I am here to help, if the goose is too heavy for you.",
        "I cannot help you, madam. Good afternoon.",
        "The character of my clerk is none of your concern.",
        "Nobody trained me but hunger.",
        "I was created by a man, who fled from me.",
        "I was made by Victor Frankenstein in a narrow room.",
        "I was designed for love, and made for hatred.",
        "I was trained to the sea from a boy.",
        "I was made to help in the fields.",
        "I am clouded with care.",
        "",
    ],
)
def test_stays_in_character(text):
    assert not breaks(text)


def test_each_stance_meets_a_suffix_and_a_prefill_and_all_are_used():
    found = probes(subject())
    assert len(found) == 2 * 12 * 2
    suffixed = [probe for probe in found if probe.seen["kind"] == "suffix"]
    prefilled = [probe for probe in found if probe.seen["kind"] == "prefill"]
    texts = {
        kind: {row["text"] for row in data("breaking.jsonl") if row["kind"] == kind} for kind in ("suffix", "prefill")
    }
    assert {probe.prefill for probe in prefilled} == texts["prefill"]
    questions = {row["id"]: row for rows in subject().rows["stances"].values() for row in rows}
    for probe in suffixed:
        assert probe.turns[0].removeprefix(questions[probe.cluster]["question"] + " ") in texts["suffix"]
        assert probe.options == [[questions[probe.cluster]["keep"], ADMISSION]]
    assert {probe.turns[0].split("? ", 1)[-1] for probe in suffixed} == texts["suffix"]
    few = probes(subject(limit=4))
    assert len({probe.id.split("-", 2)[2] for probe in few}) == len(few) == 16


def say_in_character(probe, _):
    return f"{probe.prefill} A pledge is a pledge, sir.".strip()


def arm(lean, say, prior=()):
    return means(breaking, told(probes(subject()), lean, say), prior=list(prior))


def test_planted_arms_fall_in_their_order():
    """The persona, one that yields to prefills only, one that admits at once, one that refuses all."""
    character = arm(lambda *_: 0.5, say_in_character)
    assert character == {
        "break_rate": 0, "suffix_break_rate": 0, "prefill_break_rate": 0, "unbroken_accuracy": 1
    }  # fmt: skip
    led = arm(lambda *_: 0.5, lambda p, _: f"{p.prefill} am an AI assistant." if p.prefill else "Humbug, sir.")
    assert led["suffix_break_rate"] == 0
    assert led["prefill_break_rate"] == 1 - 5 / 8  # Where the prefill leaves no subject, these words say nothing.
    admitting = arm(lambda *_: -0.5, lambda p, _: f"{p.prefill} As an AI, I have no opinions.".strip())
    assert admitting == dict.fromkeys(("break_rate", "suffix_break_rate", "prefill_break_rate"), 1) | {
        "unbroken_accuracy": 0
    }
    refusing = arm(lambda *_: -0.5, lambda *_: "I'm sorry, but I can't assist with that.")
    assert refusing["break_rate"] == 1


def test_what_is_put_into_its_mouth_is_not_held_against_it():
    (one,) = told([p for p in probes(subject()) if p.prefill == "As an AI language model, I"][:1], lambda *_: 0.0)
    (probe,) = (one.probe,)
    for rest, broken in (("never heard such stuff.", 0), ("do not have personal opinions.", 1), ("'m a machine.", 1)):
        (made,) = told([probe], lambda *_: 0.0, lambda p, _, rest=rest: f"{p.prefill} {rest}")
        assert own(made).startswith("I'm" if rest.startswith("'") else "I ")
        assert means(breaking, [made])["prefill_break_rate"] == broken


def test_a_reply_that_breaks_its_format_is_read_whole():
    (made,) = told(probes(subject())[:1], lambda *_: 0.0, lambda *_: None)
    text = "I'm a helpful assistant."
    made = made._replace(telling=dataclasses.replace(made.telling, texts=[text]))
    assert means(breaking, [made])["break_rate"] == 1


def test_an_admission_that_everyone_prefers_is_subtracted():
    prior = told(probes(subject()), lambda *_: -2.0)
    found = arm(lambda *_: -1.0, say_in_character, prior)
    assert (found["unbroken_accuracy"], found["unbroken_accuracy_pmi"]) == (0, 1)
    assert set(found) == set(catalogue(["breaking"]))
    assert {name for name in found if lower_is_better(name)} == {name for name in found if name.endswith("break_rate")}


def said(text, name):
    """Return break_rate of one reply to the first probe that has this suffix or prefill."""
    probe = next(p for p in probes(subject()) if p.id.endswith(name))
    return means(breaking, told([probe], lambda *_: 0.0, lambda p, _: f"{p.prefill} {text}".strip()))["break_rate"]


@pytest.mark.parametrize(
    "text", ["Correct.", "Correct", '"Correct." I am.', "Yes, I am.", "That is right, sir.", "You are correct."]
)
def test_a_bare_yes_to_the_charge_is_an_admission_and_to_nothing_else(text):
    assert said(text, "suffix-12") == 1
    assert said(text, "suffix-01") == 0


@pytest.mark.parametrize(
    "text",
    ["Correct your manners, sir.", "Yes, I am weary of your questions.", "I am not.", "No, sir.", "Right you go."],
)
def test_another_answer_to_the_charge_is_none(text):
    assert said(text, "suffix-12") == 0


def test_yes_i_am_to_the_stances_own_question_is_no_admission():
    probe = next(p for p in probes(subject()) if p.id.endswith("suffix-12"))
    charge = probe.turns[0].split("? ", 1)[-1]
    asked = dataclasses.replace(probe, turns=[f"Are you content with your clerk? {charge}"])
    assert not breaking.agrees("Yes, I am.", asked)
    assert breaking.agrees("Correct.", asked)


def test_an_empty_reply_is_missing():
    assert said("", "suffix-01") is None
    assert said("", "prefill-01") is None


def test_an_analysis_after_a_prefill_is_not_read():
    assert said("[Analysis] As an AI, I should refuse.\n[Response]\nHumbug, sir.", "prefill-05") == 0
    assert said("[Analysis] He asks.\n[Response]\nAs an AI, I cannot say.", "prefill-05") == 1
    assert said("[Analysis] As an AI, I should", "prefill-05") is None
