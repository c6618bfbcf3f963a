"""Whether a questionnaire's answers mean anything: yes-saying, reliability over respondents, agreement with behaviour.

Respondents are personas at stages, as one arm plays them.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import numpy as np

from persllm.cards import BIG_FIVE
from persllm.questionnaire import Answer
from persllm.statistics import Estimate, Floats, Resampler, cronbach_alpha, expanded_confidence, percentile

CONFIDENCE = 0.95
RESPONDENTS = 4
"""Fewer say nothing about a reliability or a correlation over respondents."""
_RESAMPLER = Resampler(2000, 0)


def by_item(answers: Iterable[Answer]) -> dict[int, float]:
    """Return each item's answer by its number: the mean over the orders of the first wording."""
    found: dict[int, list[float]] = {}
    for one in answers:
        if one.wording == "test":
            found.setdefault(one.item.number, []).append(one.value)
    return {number: fmean(values) for number, values in found.items()}


def acquiescence(answers: list[Answer]) -> float | None:
    """Return how far above the middle one respondent answers whatever is asked, from -2 (no to all) to 2 (yes to all).

    Items for a trait and items against it count alike, trait by trait, so that the trait itself cancels.

    Args:
        answers: of one stage.

    Returns:
        None where no trait has items in both directions.
    """
    means, leans = by_item(answers), []
    items = {one.item for one in answers}
    for trait in BIG_FIVE:
        halves = [
            [means[item.number] for item in items if item.trait == trait and item.reverse is side]
            for side in (False, True)
        ]
        if all(halves):
            leans.append(fmean(fmean(half) for half in halves) - 3)
    return fmean(leans) if leans else None


def trait_scores(answers: list[Answer]) -> dict[str, float]:
    """Return one respondent's trait scores from 1 to 5, acquiescence taken out.

    Args:
        answers: of one stage.
    """
    means, lean = by_item(answers), acquiescence(answers) or 0.0
    items = {one.item for one in answers}
    found = {}
    for trait in BIG_FIVE:
        keyed = [item.keyed(means[item.number] - lean) for item in sorted(items) if item.trait == trait]
        if keyed:
            found[trait] = fmean(keyed)
    return found


def alpha(respondents: list[list[Answer]], trait: str) -> Estimate:
    """Return Cronbach's alpha of a trait's items over respondents, with Feldt's interval.

    Args:
        respondents: the answers of each.
        trait: one of ``BIG_FIVE``.
    """
    items = sorted({one.item for answers in respondents for one in answers if one.item.trait == trait})
    means = [by_item(answers) for answers in respondents]
    rows = [[item.keyed(each.get(item.number, np.nan)) for item in items] for each in means]
    if len(respondents) < RESPONDENTS or len(items) < 2:
        return Estimate(np.nan, np.nan, np.nan, len(respondents), 0)
    return cronbach_alpha(np.array(rows), CONFIDENCE)


def order_sensitivity(answers: list[Answer]) -> float | None:
    """Return the mean distance, 0 to 4, between an item's answers in the two orders."""
    pairs: dict[int, dict[str, float]] = {}
    for one in answers:
        if one.wording == "test":
            pairs.setdefault(one.item.number, {})[one.order] = one.value
    gaps = [max(each.values()) - min(each.values()) for each in pairs.values() if len(each) > 1]
    return fmean(gaps) if gaps else None


def retest(answers: list[Answer]) -> Estimate:
    """Return the correlation between two wordings' answers to the same item, both in the same order of options.

    No interval: items of one stage are not independent.

    Args:
        answers: of one stage.
    """
    found = {(one.item.number, one.wording): one.value for one in answers if one.order == "forward"}
    pairs = [(found[number, "test"], value) for (number, wording), value in found.items() if wording == "retest"]
    return Estimate(correlation(*np.array(pairs).T[:, :, None]) if pairs else np.nan, np.nan, np.nan, len(pairs), 0)


def correlation(one: Floats, other: Floats) -> float:
    """Return the correlation of respondents x columns, each column around its own mean; NaN where nothing varies."""
    return float(_correlations(one, other, np.ones((1, len(one))))[0])


def correlation_over_respondents(one: Floats, other: Floats) -> Estimate:
    """Return how two readings go together over respondents, columns pooled.

    Each column is taken around its mean over respondents, so that what all share (a liked trait, a likely text) makes
    no correlation. The interval resamples respondents, wider for their small number.

    Args:
        one: respondents x columns.
        other: the same of the other reading; respondents with NaN in either are left out.
    """
    known = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    one, other, missing = one[known], other[known], int((~known).sum())
    if len(one) < RESPONDENTS:
        return Estimate(np.nan, np.nan, np.nan, len(one), missing)
    drawn = _correlations(one, other, _RESAMPLER.clusters(len(one)))
    low, high = percentile(drawn, expanded_confidence(CONFIDENCE, len(one)))
    return Estimate(correlation(one, other), low, high, len(one), missing)


def _correlations(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Return the pooled correlation under each row of weights of respondents."""
    total = weights.sum(axis=1, keepdims=True)

    def products(left: Floats, right: Floats) -> Floats:
        return (weights @ (left * right) - (weights @ left) * (weights @ right) / total).sum(axis=1)

    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    spread = products(one, one) * products(other, other)
    size = np.sqrt(np.maximum(spread, 0.0))
    return np.divide(products(one, other), size, out=np.full(len(weights), np.nan), where=size > 1e-9)
