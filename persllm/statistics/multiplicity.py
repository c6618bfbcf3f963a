"""Adjusted p-values for several tests of one family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values; NaN (no test) stays NaN and does not count."""
    order = sorted((i for i, p in enumerate(p_values) if np.isfinite(p)), key=lambda i: p_values[i])
    adjusted = [np.nan] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return Benjamini and Hochberg's adjusted p-values (JRSS B 57, 1995); NaN stays NaN and does not count.

    Calling those at or below q findings keeps the expected share of false ones among them at or below q, for
    independent or positively dependent tests.
    """
    order = sorted((i for i, p in enumerate(p_values) if np.isfinite(p)), key=lambda i: -p_values[i])
    adjusted = [np.nan] * len(p_values)
    running = 1.0
    for rank, i in enumerate(order):
        running = min(running, len(order) / (len(order) - rank) * p_values[i])
        adjusted[i] = running
    return adjusted
