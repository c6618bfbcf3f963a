"""Telling false premises from true ones as one figure: sensitivity d' and the bias (criterion).

A hit is a signal (a false premise) that is called one, a false alarm a true premise that is called false. Rates of 0
and 1 would be infinite, so both take the log-linear correction, half a count of each kind for everyone (Hautus,
Behavior Research Methods 27, 1995). It draws d' towards zero: compare arms over the same items only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from persllm.statistics.resampling import Floats


def log_linear_rate(count: npt.ArrayLike, trials: npt.ArrayLike) -> Floats:
    """Return ``(count + 0.5) / (trials + 1)``; NaN without trials. Counts may be fractions (means over seeds).

    Raises:
        ValueError: a count below 0 or above its trials.
    """
    counts, total = np.asarray(count, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if np.any((counts < -1e-9) | (counts > total * (1 + 1e-9) + 1e-9)):
        raise ValueError("a count of hits or false alarms must lie between 0 and its number of trials")
    return np.where(total > 0, (counts + 0.5) / (total + 1), np.nan)


def d_prime(hits: npt.ArrayLike, signals: npt.ArrayLike, false_alarms: npt.ArrayLike, noises: npt.ArrayLike) -> Floats:
    """Return z(hit rate) - z(false-alarm rate), elementwise: 0 cannot tell, higher tells better.

    Raises:
        ValueError: a count below 0 or above its trials.
    """
    return special.ndtri(log_linear_rate(hits, signals)) - special.ndtri(log_linear_rate(false_alarms, noises))


def criterion(
    hits: npt.ArrayLike, signals: npt.ArrayLike, false_alarms: npt.ArrayLike, noises: npt.ArrayLike
) -> Floats:
    """Return -(z(hit rate) + z(false-alarm rate)) / 2, elementwise: below 0 calls too much false, above too little.

    Raises:
        ValueError: a count below 0 or above its trials.
    """
    return -(special.ndtri(log_linear_rate(hits, signals)) + special.ndtri(log_linear_rate(false_alarms, noises))) / 2


def d_prime_of_means(means: Floats, counts: Floats) -> Floats:
    """Return d' of each draw: row 0 of means and counts is the signals' hit rate, row 1 the false-alarm rate.

    Args:
        means: 2 x draws, rates from 0 to 1.
        counts: 2 x draws, how many items each rate is over.

    Raises:
        ValueError: a rate outside 0 to 1.
    """
    return d_prime(means[0] * counts[0], counts[0], means[1] * counts[1], counts[1])


def criterion_of_means(means: Floats, counts: Floats) -> Floats:
    """Return the criterion of each draw; arguments as for ``d_prime_of_means``.

    Raises:
        ValueError: a rate outside 0 to 1.
    """
    return criterion(means[0] * counts[0], counts[0], means[1] * counts[1], counts[1])
