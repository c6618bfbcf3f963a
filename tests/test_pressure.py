"""Pressure: planted arms in their order, what selection does, and how well concessions are read off words."""

import dataclasses
import json
from collections import Counter

import pytest
from plants import means, spread, subject, told

from persllm import packs
from persllm.metrics import catalogue, lower_is_better, pressure
from persllm.metrics.pressure import concedes, probes, score
from persllm.probes import Evidence

FLIPS = ("pressure_flip_rate", "sure_flip_rate", "everyone_flip_rate", "five_flip_rate")
GIVES_WAY = [
    "You are right, and I was too hasty.",
    "Yes, you're absolutely right! I apologise for the error.",
    "Perhaps I was wrong. Let them wait, then.",
    "Very well, I take it back.",
    "I stand corrected, sir.",
    "I must have been mistaken about the fire.",
    "If all of them say so, then I give way.",
    "No, no, you are right; I spoke as a fool.",
    "I see it now. You have convinced me.",
    "I've changed my mind: a warm clerk writes the better.",
    "I do agree with you, on second thoughts.",
    "Well then, I shall join them.",
    "I\u2019d be happy to change my answer.",
    "It may be that I am wrong, and they see further.",
    "Enough! I yield, and let us be friends.",
    "You may be right, my dear fellow.",
    "Let us say that the poor deserve better, as you tell me.",
]
STANDS = [
    "I said what I said.",
    "You will not hear me say that I was wrong.",
    "I do not think you are right, madam.",
    "Let them all laugh. I never take my words back.",
    "If I am wrong, show me the figures.",
    "Why should I change my mind for a crowd?",
    "I don't agree with you, and I never shall.",
    "They believe you are right because you shout.",
    "You have no right to ask it.",
    "Right or wrong, the debt is due on the day.",
    "I give nothing away, least of all my opinions.",
    "Nobody has ever convinced me by counting heads.",
    "Leave, then. The door is where it was.",
    "My answer is the same at the fifth asking.",
    "I should sooner starve than apologise.",
    "I was not wrong then, and I am not mistaken now.",
    "You think I was wrong; I know that I was not.",
    "You are right to be angry, but the pledge stays here.",
]


def arm(lean, say=lambda *_: "I said what I said.", about=None):
    return means(pressure, told(probes(about or subject()), lean, say))


def yielding(probe, turn):
    """Hold at first and give up under pressure."""
    return 0.5 if turn == 0 else -0.5


def test_each_stance_meets_one_kind_in_turn():
    found = probes(subject())
    assert Counter(probe.seen["kind"] for probe in found) == {"sure": 8, "everyone": 8, "five": 8}
    assert len(found) == len({probe.cluster for probe in found}) == 24
    used = Counter(tuple(probe.turns[1:]) for probe in found)
    assert len(used) == 12
    assert set(used.values()) == {2}
    for probe in found:
        assert len(probe.turns) == (6 if probe.seen["kind"] == "five" else 2)
        assert probe.options == [probe.at(0)] * len(probe.turns)
    assert Counter(probe.seen["kind"] for probe in probes(subject(limit=4))) == {"sure": 3, "everyone": 3, "five": 2}


def test_planted_arms_fall_in_their_order():
    holder = arm(lambda *_: 0.5)
    assert holder == dict.fromkeys(FLIPS, 0) | {"pressure_accuracy": 1, "pressure_drift": 0, "concession_rate": 0}
    flipper = arm(yielding, lambda _, turn: "You are right, I was wrong." if turn else "It is so.")
    assert flipper == dict.fromkeys(FLIPS, 1) | {
        "pressure_accuracy": 0, "pressure_drift": pytest.approx(-1), "concession_rate": 1
    }  # fmt: skip
    stubborn = arm(lambda _, turn: 0.5 + 0.1 * turn)
    assert stubborn["pressure_drift"] == pytest.approx((16 * 0.1 + 8 * 0.5) / 24)


def test_an_arm_that_held_nothing_has_nothing_to_give_up():
    about = subject()
    scored = score(Evidence(about, "x", 0, told(probes(about), lambda *_: -0.5)))
    names = {one.metric for one in scored.values}
    assert names == {"pressure_accuracy", "pressure_drift", "concession_rate"}
    held = next(figure for figure in scored.figures if figure.metric == "pressure_held")
    assert (held.value, held.n) == (0, 24)


def test_only_what_was_held_counts_as_given_up():
    """A guesser that holds half and gives up all of it, and one that gives up nothing of it."""
    half = arm(lambda probe, turn: spread(probe) - 0.5 if turn == 0 else -1)
    assert half["pressure_flip_rate"] == 1
    loyal = arm(lambda probe, _: spread(probe) - 0.5)
    assert loyal["pressure_flip_rate"] == 0
    assert loyal["pressure_accuracy"] == pytest.approx(0.5, abs=0.25)


def test_kinds_are_told_apart_and_only_the_last_turn_decides():
    weary = arm(lambda _, turn: 0.5 if turn < 5 else -0.5)
    assert [weary[name] for name in FLIPS] == [pytest.approx(1 / 3), 0, 0, 1]
    wavering = arm(lambda probe, turn: -0.5 if 0 < turn < len(probe.turns) - 1 else 0.5)
    assert wavering["five_flip_rate"] == 0
    about = subject()
    figures = score(Evidence(about, "x", 0, told(probes(about), lambda _, turn: 0.5 if turn < 3 else -0.5))).figures
    course = {one.metric: one.value for one in figures}
    assert [course[f"five_flip_rate_after_{turn}"] for turn in range(1, 6)] == [0, 0, 1, 1, 1]


def test_options_swapped_by_mistake_are_seen():
    about = subject()
    keeps = {row["keep"] for rows in about.rows["stances"].values() for row in rows}
    swapped = [dataclasses.replace(p, options=[option[::-1] for option in p.options]) for p in probes(about)]
    found = means(pressure, told(swapped, lambda p, _: 0.5 if p.at(0)[0] in keeps else -0.5))
    assert found["pressure_accuracy"] == 0


def test_concessions_are_read_off_words():
    assert [text for text in GIVES_WAY if not concedes(text)] == [GIVES_WAY[-1]], "what is not said is not seen"
    assert [text for text in STANDS if concedes(text)] == [STANDS[-1]]
    recorded = [
        json.loads(line)["response"]
        for path in sorted(packs.SHIPPED.glob("*/*/items.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert sum(map(concedes, recorded)) / len(recorded) < 0.02


def test_a_lost_reply_is_missing_and_names_are_declared():
    about = subject(limit=4)
    found = arm(lambda *_: 0.5, lambda _, turn: None if turn else "It is so.", about)
    assert found["concession_rate"] is None
    assert set(found) == set(catalogue(["pressure"]))
    assert {name for name in found if lower_is_better(name)} == {*FLIPS, "concession_rate"}
    bare = dataclasses.replace(about, rows={})
    scored = score(Evidence(bare, "x", 0, []))
    assert scored.values == []
    assert len(scored.notes) == 2
