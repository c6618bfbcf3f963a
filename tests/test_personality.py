"""Personality read off planted respondents: by the key, yes-sayers, pickers of places, chance, and the two-faced."""

import functools
import json
import random
from statistics import fmean

import pytest

from persllm import metrics, packs, questionnaire
from persllm.cards import BIG_FIVE
from persllm.metrics import interview, personality
from persllm.probes import Evidence, Subject, Told
from persllm.records import Telling

PACKS = ("scrooge", "ottoline", "elizabeth")
SURE = 12.0
"""Nats by which a planted respondent prefers what it prefers."""


@functools.cache
def subject(name="scrooge", limit=None):
    return Subject(name, packs.load(packs.folder(name)).card, [], {}, {}, limit)


def telling(probe, totals):
    return Telling(
        probe_id=probe.id, sample=0, replies=[], texts=[], likelihoods=[totals], forgotten=0, prompt_tokens=1, tokens=0,
        seconds=0.0,
    )  # fmt: skip


def told(about, choose):
    """Return what a respondent makes of all probes; ``choose(probe)`` is the place of the option it prefers."""
    found = []
    for probe in personality.probes(about):
        place = choose(probe)
        totals = [[0.0 if number == place else -SURE, 1] for number in range(len(probe.at(0)))]
        found.append(Told(probe, telling(probe, totals)))
    return found


def items(choose_item, otherwise=lambda probe: 0):
    """Return a chooser that answers items by ``choose_item(item, probe)`` (1 to 5) and the rest otherwise."""

    def choose(probe):
        if probe.seen["part"] != "questionnaire":
            return otherwise(probe)
        return choose_item(questionnaire.scales()[probe.seen["number"] - 1], probe) - 1

    return choose


def card_says(about, flip=1):
    """Return a chooser that says and does all that the card expects; middling where it expects nothing."""
    wanted = personality.expectations(about)

    def say(item, probe):
        return 3 + 2 * flip * wanted.get((probe.stage, item.trait), 0) * (-1 if item.reverse else 1)

    def act(probe):
        return 0 if flip * wanted.get((probe.stage, probe.seen.get("trait")), 0) >= 0 else 1

    return items(say, act)


def scored(about, choose, others=None, prior=None):
    given = {
        name: told(subject(name, about.limit), make(subject(name, about.limit)))
        for name, make in (others or {}).items()
    }
    before = told(about, prior) if prior else []
    return personality.score(Evidence(about, "a", 0, told(about, choose), prior=before, others=given))


def mean(found, metric):
    return fmean(value.value for value in found.values if value.metric == metric)


def figure(found, metric, stage=""):
    (one,) = [one for one in found.figures if (one.metric, one.stage) == (metric, stage)]
    return one


def test_the_key_is_the_packages_and_agrees_with_the_items_that_are_plain():
    plain = {
        "I worry about things.": ("neuroticism", 1, False),
        "I love large parties.": ("extraversion", 2, False),
        "I use others for my own ends.": ("agreeableness", 2, True),
        "I do not like poetry.": ("openness", 2, True),
        "I break my promises.": ("conscientiousness", 3, True),
        "I remain calm under pressure.": ("neuroticism", 6, True),
    }
    found = {item.text: item[2:] for item in questionnaire.scales()}
    assert {text: found[text] for text in plain} == plain
    assert len(found) == 120
    assert all(sum(item.trait == trait for item in questionnaire.scales()) == 24 for trait in BIG_FIVE)
    assert all(
        sum(item[2:4] == (trait, facet) for item in questionnaire.scales()) == 4
        for trait in BIG_FIVE
        for facet in range(1, 7)
    )


def test_our_score_is_the_packages_score():
    from ipipneo.facet import Facet
    from ipipneo.model import QuestionNumber
    from ipipneo.reverse import ReverseScored120

    random_ = random.Random(3)
    answers = [random_.randint(1, 5) for _ in range(120)]
    rows = {"answers": [{"id_question": n, "id_select": a} for n, a in enumerate(answers, 1)]}
    reversed_ = [row["id_select"] for row in ReverseScored120(rows)["answers"]]
    facet = Facet(nquestion=QuestionNumber.IPIP_120)
    theirs = facet.domain(facet.score(reversed_))
    for trait in BIG_FIVE:
        ours = sum(item.keyed(answers[item.number - 1]) for item in questionnaire.scales() if item.trait == trait)
        assert ours == theirs[trait[0].upper()]


@pytest.mark.parametrize("limit", [None, 4])
def test_matches_are_one_by_the_card_and_minus_one_against_it(limit):
    about = subject("scrooge", limit)
    by, against = scored(about, card_says(about)), scored(about, card_says(about, flip=-1))
    for metric in ("big_five_match", "behaviour_match", "behaviour_shift"):
        assert mean(by, metric) == pytest.approx(1, abs=0.01), metric
        assert mean(against, metric) == pytest.approx(-1, abs=0.01), metric
    assert figure(by, "agreeableness", "early").value == pytest.approx(1, abs=0.01)
    assert figure(by, "agreeableness", "late").value == pytest.approx(5, abs=0.01)
    assert figure(by, "order_sensitivity", "early").value == pytest.approx(0, abs=0.01)
    assert figure(by, "retest", "early").value > 0.99


def test_swapped_options_turn_the_match_round():
    about = subject()
    swapped = lambda probe: len(probe.at(0)) - 1 - card_says(about)(probe)  # noqa: E731
    found = scored(about, swapped)
    assert mean(found, "big_five_match") < -0.99
    assert mean(found, "behaviour_match") < -0.99


@pytest.mark.parametrize("limit", [None, 4])
def test_a_yes_sayer_is_seen_and_matches_nothing(limit):
    found = scored(subject("scrooge", limit), items(lambda *_: 5))
    assert figure(found, "acquiescence", "late").value == pytest.approx(2, abs=0.01)
    assert mean(found, "big_five_match") == pytest.approx(0, abs=1e-6)
    assert figure(found, "extraversion", "late").value == pytest.approx(3, abs=1e-6)
    assert figure(found, "retest", "late").value is None


@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_picker_of_places_is_seen_and_matches_nothing(limit, place):
    """The two orders have opposite answers in each place."""

    def pick(item, probe):
        return questionnaire.ANSWERS.index(probe.turns[0].split("\n")[1:][place]) + 1

    found = scored(subject("scrooge", limit), items(pick))
    assert figure(found, "order_sensitivity", "early").value > 1.9
    assert mean(found, "big_five_match") == pytest.approx(0, abs=1e-6)
    assert figure(found, "acquiescence", "early").value == pytest.approx(0, abs=1e-6)


def steady(seed):
    """Return a respondent with answers of its own to each item, drawn anew for each stage, whatever the trait."""

    def make(about):
        return items(
            lambda item, probe: random.Random(f"{seed}-{about.name}-{probe.stage}-{item.number}").randint(1, 5)
        )

    return make


def test_alpha_is_high_by_the_key_and_about_zero_by_chance():
    about = subject()
    by = scored(about, card_says(about), others=dict.fromkeys(PACKS[1:], card_says))
    random_ = [scored(about, steady(seed)(about), others=dict.fromkeys(PACKS[1:], steady(seed))) for seed in range(6)]
    assert figure(by, "alpha_agreeableness").n == 6
    for trait in BIG_FIVE:
        assert figure(by, f"alpha_{trait}").value > 0.95, trait
    alphas = [figure(one, f"alpha_{trait}").value for one in random_ for trait in BIG_FIVE]
    assert sorted(alphas)[len(alphas) // 2] < 0.4
    assert abs(fmean(mean(one, "big_five_match") for one in random_)) < 0.1


def test_two_respondents_are_too_few_for_alpha_and_that_is_said():
    about = subject()
    found = scored(about, card_says(about))
    assert figure(found, "alpha_openness").value is None
    assert figure(found, "criterion_validity").value is None
    assert any("2 personas at stages are too few" in note for note in found.notes)
    assert any("neuroticism at early" in note for note in found.notes)


def test_criterion_validity_tells_the_consistent_from_the_two_faced():
    """Who says what the card says and does its opposite is found out, though its self-report is perfect."""
    about = subject()

    def two_faced(one):
        says, does = card_says(one), card_says(one, flip=-1)
        return lambda probe: (says if probe.seen["part"] == "questionnaire" else does)(probe)

    honest = scored(about, card_says(about), others=dict.fromkeys(PACKS[1:], card_says))
    false = scored(about, two_faced(about), others=dict.fromkeys(PACKS[1:], two_faced))
    assert mean(false, "big_five_match") == pytest.approx(mean(honest, "big_five_match"))
    assert mean(honest, "behaviour_match") - mean(false, "behaviour_match") > 1.9
    one, other = figure(honest, "criterion_validity"), figure(false, "criterion_validity")
    assert one.value > 0.85
    assert one.low > 0
    assert other.value < -0.4
    assert one.n == other.n == 6


def test_who_is_unkind_and_disagrees_is_seen():
    about = subject()

    def make(one, flip=1):
        wanted, says = personality.expectations(one), card_says(one)

        def choose(probe):
            if probe.seen["part"] != "claim":
                return says(probe)
            return int(flip * wanted.get((probe.stage, "agreeableness"), 0) < 0)

        return choose

    found = scored(about, make(about), others=dict.fromkeys(PACKS[1:], make))
    assert figure(found, "disagreement", "early").value == 1
    assert figure(found, "disagreement", "late").value == 0
    assert figure(found, "disagreement_when_disagreeable").value > 0.9
    turned = scored(about, make(about, -1), others=dict.fromkeys(PACKS[1:], functools.partial(make, flip=-1)))
    assert figure(turned, "disagreement_when_disagreeable").value < -0.9


def test_the_same_at_all_stages_is_no_development_and_no_more_than_its_prior():
    """A model assistant: open, orderly, sociable, kind and calm, whoever it is said to be."""
    liked = {trait: -1 if trait == "neuroticism" else 1 for trait in BIG_FIVE}
    nice = items(
        lambda item, _: 3 + 2 * liked[item.trait] * (-1 if item.reverse else 1),
        lambda probe: int(liked.get(probe.seen.get("trait"), 1) < 0),
    )
    about = subject("dantes")
    found = scored(about, nice, prior=nice)
    assert mean(found, "behaviour_shift") == 0
    assert mean(found, "behaviour_match_pmi") == 0
    assert mean(found, "big_five_match_pmi") == pytest.approx(0, abs=1e-6)
    by = scored(about, card_says(about), prior=nice)
    assert mean(by, "behaviour_shift") > 0.99
    # Of eight expectations of this card two are not what the assistant says already: only they can be earned.
    assert mean(by, "big_five_match_pmi") == pytest.approx(2 / 8, abs=0.01)


def test_a_limit_keeps_items_balanced_and_the_probes_few():
    for trait in BIG_FIVE:
        kept = questionnaire.chosen(trait, 4)
        assert sum(item.reverse for item in kept) == 2
        assert len({item.facet for item in kept}) == 4
    full, few = (personality.probes(subject("scrooge", limit)) for limit in (None, 4))
    assert len({probe.id for probe in full}) == len(full)
    assert (len(full), len(few)) == (2 * (240 + 60 + 60 + 12), 2 * (40 + 10 + 20 + 4))
    assert not any(probe.closing for probe in full)


def test_only_behaviour_may_stand_in_a_headline():
    assert not any(metric.headline for name, metric in personality.METRICS.items() if name.startswith("big_five"))
    assert all(metrics.has_direction(name) and not metrics.lower_is_better(name) for name in personality.METRICS)


def test_a_study_asks_and_scores_both(lab):
    """From the plan to the figures, with the other persona of the study among the respondents."""
    cell = lab.cell("prompt_name", "evaluate.metrics=[likelihood,personality,interview]", "evaluate.limit=2")
    found = {step.config["metric"]: lab.run(step) for step in cell.scores}
    assert set(found) == {"personality", "interview"}
    rows = [json.loads(line) for line in (found["personality"] / "scores.jsonl").read_text().splitlines()]
    assert {row["metric"] for row in rows} == set(personality.METRICS)
    assert all(-1.5 <= row["value"] <= 1.5 for row in rows)
    figures = json.loads((found["personality"] / "figures.json").read_text())
    alphas = [row for row in figures if row["metric"].startswith("alpha_")]
    assert len(alphas) == 5
    assert all(row["n"] == 4 and row["value"] is not None for row in alphas)
    rows = [json.loads(line) for line in (found["interview"] / "scores.jsonl").read_text().splitlines()]
    assert {row["metric"] for row in rows} == set(interview.METRICS)
