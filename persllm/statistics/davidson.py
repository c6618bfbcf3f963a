"""Maximum likelihood of Davidson's model of paired comparisons with ties, for many resamples at once."""

from __future__ import annotations

import numpy as np

from persllm.statistics.resampling import Floats

APPROACH = 5
"""Steps of minorisation-maximisation before Newton's."""
STEPS = 100
"""Where Newton's method gives up."""
TOLERANCE = 1e-8


def _minorise(ability: Floats, tie: Floats, played: Floats, score: Floats, tied: Floats) -> tuple[Floats, Floats]:
    """Return abilities (mean log zero) and tie parameters after one step that never lowers the likelihood."""
    mean = np.sqrt(ability[:, :, None] * ability[:, None, :])
    weight = played / (ability[:, :, None] + ability[:, None, :] + tie[:, None, None] * mean)
    lift = 1 + tie[:, None, None] / 2 * mean / ability[:, :, None]
    after = score / (weight * lift).sum(axis=2)
    expected = (weight * mean).sum(axis=(1, 2)) / 2
    scale = np.exp(np.log(after).mean(axis=1, keepdims=True))
    return after / scale, np.where(tied > 0, tied / expected, 0.0)


def _newton(ability: Floats, tie: Floats, played: Floats, score: Floats, tied: Floats) -> Floats:
    """Return Newton's step in the logs of abilities and, last, of the tie parameter; the likelihood is concave."""
    arms = ability.shape[1]
    mean = tie[:, None, None] * np.sqrt(ability[:, :, None] * ability[:, None, :])
    total = ability[:, :, None] + ability[:, None, :] + mean
    win, draw = ability[:, :, None] / total, mean / total
    points = win + draw / 2
    spread = played * (win + draw / 4 - points**2)
    mixed = (played * (draw / 2 - points * draw)).sum(axis=2)
    bend = np.zeros((len(ability), arms + 1, arms + 1))
    # A constant added to all logs changes nothing; the added constant keeps the matrix regular.
    bend[:, :arms, :arms] = np.eye(arms) * spread.sum(axis=2)[:, :, None] - spread + 1 / arms
    bend[:, :arms, arms] = bend[:, arms, :arms] = mixed
    bend[:, arms, arms] = np.where(tied > 0, (played * draw * (1 - draw)).sum(axis=(1, 2)) / 2, 1.0)
    slope = np.empty((len(ability), arms + 1))
    slope[:, :arms] = score - (played * points).sum(axis=2)
    slope[:, arms] = np.where(tied > 0, tied - (played * draw).sum(axis=(1, 2)) / 2, 0.0)
    step: Floats = np.linalg.solve(bend, slope[:, :, None])[:, :, 0].astype(np.float64)
    return np.clip(step, -1, 1)


def fit(wins: Floats, ties: Floats, prior: float) -> tuple[Floats, Floats, bool]:
    """Return log abilities (batch x arms, mean zero), tie parameters (batch), and whether all converged.

    Minorisation-maximisation comes near from anywhere but then crawls where an arm nearly always wins, so that
    Newton's method ends it.

    Args:
        wins: batch x arms x arms, how often the row's arm beat the column's.
        ties: the same, symmetric: every tie stands in both places.
        prior: each arm also wins and loses this many comparisons against every other.
    """
    arms = wins.shape[1]
    wins = wins + prior * (1 - np.eye(arms))
    played = wins + wins.transpose(0, 2, 1) + ties
    score = wins.sum(axis=2) + ties.sum(axis=2) / 2
    tied = ties.sum(axis=(1, 2)) / 2
    ability, tie = np.ones_like(score), np.where(tied > 0, 1.0, 0.0)
    for _ in range(APPROACH):
        ability, tie = _minorise(ability, tie, played, score, tied)
    logs = np.log(ability)
    step = np.full((1, 1), np.inf)
    for _ in range(STEPS):
        step = _newton(np.exp(logs), tie, played, score, tied)
        logs, tie = logs + step[:, :-1], tie * np.exp(step[:, -1])
        if np.abs(step).max() < TOLERANCE:
            break
    return logs - logs.mean(axis=1, keepdims=True), tie, bool(np.abs(step).max() < TOLERANCE)
