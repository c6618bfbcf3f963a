"""Whether the items of a scale measure one thing: Cronbach's alpha and split halves."""

from __future__ import annotations

import numpy as np
from scipy import special

from persllm.statistics.estimate import Estimate
from persllm.statistics.resampling import Floats


def _complete(answers: Floats) -> tuple[Floats, int]:
    """Return the respondents without a missing answer, and how many have one.

    Raises:
        ValueError: fewer than two items.
    """
    if answers.ndim != 2 or answers.shape[1] < 2:
        raise ValueError(f"a scale needs respondents x at least 2 items, not {answers.shape}")
    known = np.isfinite(answers).all(axis=1)
    return answers[known], int((~known).sum())


def cronbach_alpha(answers: Floats, confidence: float) -> Estimate:
    """Return Cronbach's alpha (Psychometrika 16, 1951) with Feldt's interval (Psychometrika 30, 1965).

    The interval is exact for normal answers of equal covariance; respondents must be independent.

    Args:
        answers: respondents x items, reversed items already turned round; a respondent with NaN is left out.
        confidence: e.g. 0.95.

    Returns:
        The estimate. NaN for fewer than three respondents, or where their totals do not differ at all: what does not
        vary has no reliability.

    Raises:
        ValueError: fewer than two items.
    """
    answers, missing = _complete(answers)
    people, items = answers.shape
    spread = float(answers.sum(axis=1).var(ddof=1)) if people > 2 else 0.0
    if spread <= 1e-12:
        return Estimate(np.nan, np.nan, np.nan, people, missing)
    value = items / (items - 1) * (1 - float(answers.var(axis=0, ddof=1).sum()) / spread)
    tail, free = (1 - confidence) / 2, (people - 1, (people - 1) * (items - 1))
    low, high = (1 - (1 - value) * float(special.fdtri(*free, end)) for end in (1 - tail, tail))
    return Estimate(value, low, high, people, missing)


def split_half(answers: Floats, splits: int, seed: int, confidence: float) -> Estimate:
    """Return the mean reliability of random halves of the items, each stepped up after Spearman and Brown (1910).

    Args:
        answers: respondents x items, reversed items already turned round; a respondent with NaN is left out.
        splits: how many random halves; an odd item goes to either side.
        seed: of the halves.
        confidence: e.g. 0.95.

    Returns:
        The mean; ``low`` and ``high`` are quantiles over the splits (how much the choice of halves matters), not an
        interval over respondents. Splits where a half does not vary are left out; NaN if all are.

    Raises:
        ValueError: fewer than two items.
    """
    answers, missing = _complete(answers)
    people, items = answers.shape
    random = np.random.default_rng([seed, 5, items])
    order = np.argsort(random.random((splits, items)), axis=1)
    half = (order < (items + random.integers(0, 2, splits)[:, None] * (items % 2)) // 2).astype(np.float64)
    if people < 3:
        return Estimate(np.nan, np.nan, np.nan, people, missing)
    centred = answers - answers.mean(axis=0)
    one, other = centred @ half.T, centred @ (1 - half).T
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    related = np.divide((one * other).sum(axis=0), size, out=np.full(splits, np.nan), where=size > 1e-12)
    found = np.divide(2 * related, 1 + related, out=np.full(splits, np.nan), where=related > -1 + 1e-9)
    found = found[np.isfinite(found)]
    if not len(found):
        return Estimate(np.nan, np.nan, np.nan, people, missing)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Estimate(float(found.mean()), float(low), float(high), people, missing)
