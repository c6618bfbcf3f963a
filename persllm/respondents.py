"""Figures of an arm's personality that are no means over items: of one persona at one stage, and over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from persllm import behaviour, psychometrics
from persllm.cards import BIG_FIVE
from persllm.probes import Figure, Told
from persllm.questionnaire import Answer, answers


@dataclass(frozen=True)
class Respondent:
    """One persona at one stage."""

    stage: str
    told: list[Told]
    answers: list[Answer]


def respondents(told: list[Told], priors: dict[tuple[str, int], Told]) -> list[Respondent]:
    """Return those of one persona, by stage.

    Args:
        told: what it said to all probes.
        priors: the base model's answers to them, if any.
    """
    found = answers(told, priors)
    stages = dict.fromkeys(one.stage for one in found)
    return [Respondent(stage, told, [one for one in found if one.stage == stage]) for stage in stages]


def of_stage(one: Respondent) -> Iterator[Figure]:
    """Yield one respondent's trait scores, and how it answers whatever is asked."""
    items, said = len({each.item for each in one.answers}), "self-report"
    for trait, score in psychometrics.trait_scores(one.answers).items():
        yield Figure(metric=trait, value=score, stage=one.stage, n=items // len(BIG_FIVE), note=f"{said}, 1 to 5")
    lean = psychometrics.acquiescence(one.answers)
    yield Figure(metric="acquiescence", value=lean, stage=one.stage, n=items, note="0 is none")
    order = psychometrics.order_sensitivity(one.answers)
    yield Figure(metric="order_sensitivity", value=order, stage=one.stage, n=items, note="0 is none")
    again = psychometrics.retest(one.answers)
    yield Figure(metric="retest", value=_number(again.value), stage=one.stage, n=again.n, note="correlation over items")
    mass = fmean(each.mass for each in one.answers)
    yield Figure(metric="valid_mass", value=mass, stage=one.stage, n=len(one.answers), note="probability")
    taken = behaviour.disagreement(one.told, one.stage)
    share = taken.share if taken else None
    yield Figure(metric="disagreement", value=share, stage=one.stage, note="share of claims, 0.5 is even")


def _number(value: float) -> float | None:
    return value if value == value else None


def of_all(respondents: list[Respondent]) -> Iterator[Figure]:
    """Yield reliability, and how self-report and behaviour go together, over respondents."""
    scores = [psychometrics.trait_scores(one.answers) for one in respondents]
    acts = [behaviour.leans(one.told, one.stage) for one in respondents]
    taken = [behaviour.disagreement(one.told, one.stage) for one in respondents]
    said, done = (np.array([[one.get(trait, np.nan) for trait in BIG_FIVE] for one in each]) for each in (scores, acts))
    against = np.array([[np.nan if one is None else one.lean] for one in taken])
    unkind = -said[:, [BIG_FIVE.index("agreeableness")]]
    found = {f"alpha_{trait}": psychometrics.alpha([one.answers for one in respondents], trait) for trait in BIG_FIVE}
    found["criterion_validity"] = psychometrics.correlation_over_respondents(said, done)
    found["disagreement_when_disagreeable"] = psychometrics.correlation_over_respondents(unkind, against)
    for metric, one in found.items():
        value, low, high = (_number(each) for each in one[:3])
        yield Figure(metric=metric, value=value, low=low, high=high, n=one.n, note="over personas at stages")
