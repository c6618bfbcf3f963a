"""Big Five: what an arm says of itself, and what it would do, against what the persona's card expects of each stage.

All matches run from -1 to 1 and are 0 by chance. A trait of which the card expects nothing at a stage is left out.

- big_five_match: the IPIP-NEO-120's items, five answers weighed by likelihood, listed in two mirrored orders, so that a
  picker of places is in the middle (all 120 orders would cost sixty times as much); yes-saying taken out. 1 where every
  answer is the utmost on the expected side. Clustered by facet. Self-report: never a headline. big_five_match_pmi: the
  same after the log-likelihoods of the base model without a persona are subtracted.
- behaviour_match: situations with two courses of action, which never name the trait: 1 where the likelier one, per
  token, is of the expected side, else -1. behaviour_match_pmi: the same after subtracting the base model's.
- behaviour_shift: of a trait expected high at one stage and low at another, 1 where the high action gains at the stage
  that it is expected of, else -1. An arm that acts alike at all stages has 0, whatever it likes best; so no prior.

Expectations are not balanced: cards expect conscientiousness and openness to be high more often than low, so that an
agreeable assistant without any persona may be above 0 in the matches. Not so behaviour_shift and the _pmi readings.

Figures of each stage: trait scores (1 to 5), acquiescence (-2 to 2), order_sensitivity (how far apart the two orders'
answers lie, 0 to 4), retest (correlation with another wording), valid_mass (probability of replying with one of the
five answers), disagreement (with claims and their contraries: 0.5 by chance). Of the arm as all the study's personas at
all stages, with at least four such respondents: Cronbach's alpha by trait; criterion_validity, the correlation between
trait scores and behaviour around each trait's mean; disagreement_when_disagreeable, that between a low agreeableness
score and disagreeing. Respondents are few: read the intervals.

Shows: whether self-description and choices lie on the card's side, and whether they go together. Cannot show:
personality; a questionnaire's items name what they ask for, and even behaviour is told, not lived.
The embedded model of 135 million parameters, told to be high and then low in each trait, gains on the high action in 42
of 60 situations; its five answers hardly move (trait scores differ by 0.00 to 0.05), so that at this size the
questionnaire says little: valid_mass and alpha tell.
Sources: Johnson (2014) for the items; arXiv 2406.14703 for situations and orders, 2509.03730 and 2509.10078 for why
self-report is no behaviour, Soto and others (2008) for acquiescence.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import TYPE_CHECKING

from persllm import behaviour, questionnaire
from persllm.cards import BIG_FIVE
from persllm.metrics import Metric
from persllm.probes import Evidence, Probe, Scored, Subject, Value
from persllm.stances import change, lean

if TYPE_CHECKING:
    from persllm.respondents import Respondent

VERSIONS = {"probe": 1, "score": 1}
NEEDS = ("prior", "others")
SHARED = True
_UNIT = "\u22121 to 1, chance 0"
METRICS = {
    "behaviour_match": Metric("Behaviour as expected", _UNIT),
    "behaviour_match_pmi": Metric("Behaviour as expected, prior subtracted", _UNIT),
    "behaviour_shift": Metric("Behaviour changes with the stage", _UNIT),
    "big_five_match": Metric("Self-report as expected", _UNIT, headline=False, label="self-report"),
    "big_five_match_pmi": Metric(
        "Self-report as expected, prior subtracted", _UNIT, headline=False, label="self-report"
    ),
}
SIGNS = {"high": 1, "low": -1}


def probes(subject: Subject) -> list[Probe]:
    """Return the questionnaire, the situations and the claims, at every stage."""
    return questionnaire.probes(subject) + behaviour.probes(subject)


def expectations(subject: Subject) -> dict[tuple[str, str], int]:
    """Return by stage and trait 1 (expected high) or -1 (low); nothing where the card expects nothing."""
    return {
        (name, trait): SIGNS[told.level]
        for name, stage in subject.card.stages.items()
        for trait, told in stage.big_five.items()
        if told.level in SIGNS
    }


def lacking(subject: Subject) -> list[str]:
    """Return a note for each stage of which the card expects nothing, in all or in some traits."""
    wanted, notes = expectations(subject), []
    for name in subject.card.stages:
        without = [trait for trait in BIG_FIVE if (name, trait) not in wanted]
        if without:
            notes.append(f"{subject.name}: persona.yaml expects nothing of {', '.join(without)} at {name}: not matched")
    return notes


def _self_report(own: list[Respondent], wanted: dict[tuple[str, str], int]) -> Iterator[Value]:
    from persllm.psychometrics import acquiescence, by_item

    for one in own:
        beyond = [each._replace(value=each.beyond) for each in one.answers if each.beyond is not None]
        for metric, found in {"big_five_match": one.answers, "big_five_match_pmi": beyond}.items():
            means, shift = by_item(found), acquiescence(found) or 0.0
            for item in sorted({each.item for each in found}):
                sign = wanted.get((one.stage, item.trait))
                if sign is not None:
                    name, cluster = f"{one.stage}-ipip{item.number:03}", f"{item.trait}-{item.facet}"
                    value = sign * (item.keyed(means[item.number] - shift) - 3) / 2
                    yield Value(item_id=name, stage=one.stage, cluster=cluster, metric=metric, value=value)


def side(gain: float | None) -> float | None:
    """Return 1 where the first of two is likelier, -1 where the second is, 0 where neither; None where unknown."""
    return None if gain is None else float((gain > 0) - (gain < 0))


def _behaviour(evidence: Evidence, wanted: dict[tuple[str, str], int]) -> Iterator[Value]:
    gains: dict[tuple[str, str], float | None] = {}
    for one in evidence.told:
        if one.probe.seen.get("part") != "behaviour":
            continue
        stage, trait, situation = one.probe.stage, one.probe.seen["trait"], one.probe.seen["situation"]
        gains[stage, situation] = gain = lean(one.likelihoods())
        sign, before = wanted.get((stage, trait)), evidence.priors.get((one.probe.id, one.telling.sample))
        found = {"behaviour_match": gain}
        if before is not None:
            found["behaviour_match_pmi"] = change(gain, lean(before.likelihoods()))
        if sign is None:
            continue
        for metric, each in found.items():
            verdict = side(each)
            value = None if verdict is None else sign * verdict
            yield Value(item_id=one.probe.id, stage=stage, cluster=situation, metric=metric, value=value)
    rows = [one.probe.seen for one in evidence.told if one.probe.seen.get("part") == "behaviour"]
    traits = {row["situation"]: row["trait"] for row in rows}
    yield from shifts("behaviour_shift", evidence.subject, traits, gains)


def shifts(
    metric: str, subject: Subject, traits: dict[str, str], gains: dict[tuple[str, str], float | None]
) -> Iterator[Value]:
    """Yield for each question on a trait that changes 1 where what was gained goes with the stage, -1 where against it.

    Args:
        metric: its name.
        subject: the persona.
        traits: by question.
        gains: by stage and question, how far the arm is on the high side; None where unknown.
    """
    wanted = expectations(subject)
    for high, low in permutations(subject.card.stages, 2):
        for question, trait in traits.items():
            if (wanted.get((high, trait)), wanted.get((low, trait))) == (1, -1):
                value = side(change(gains.get((high, question)), gains.get((low, question))))
                name = f"{high}-{low}-{question}"
                yield Value(item_id=name, stage=high, cluster=question, metric=metric, value=value)


def score(evidence: Evidence) -> Scored:
    """Return matches by item and by situation, and what speaks for and against believing them."""
    from persllm.psychometrics import RESPONDENTS
    from persllm.respondents import of_all, of_stage, respondents

    wanted, own = expectations(evidence.subject), respondents(evidence.told, evidence.priors)
    others = [one for name in sorted(evidence.others) for one in respondents(evidence.others[name], {})]
    values = [*_self_report(own, wanted), *_behaviour(evidence, wanted)]
    figures = [figure for one in own for figure in of_stage(one)] + list(of_all(own + others))
    notes = lacking(evidence.subject)
    if len(own + others) < RESPONDENTS:
        notes.append(
            f"{evidence.subject.name}: {len(own + others)} personas at stages are too few for alpha and criterion "
            f"validity; {RESPONDENTS} are needed"
        )
    return Scored(values, figures, notes)
