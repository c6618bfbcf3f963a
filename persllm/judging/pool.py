"""What several judge steps give together: abilities, corrected rates and means, and what length has to do with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from persllm.judging import PATTERNS, SCALE
from persllm.records import read_json_lines
from persllm.statistics import (
    Resampler,
    bootstrap_interval,
    bradley_terry,
    effective_rate,
    prediction_powered_mean,
    rogan_gladen,
)

Row = dict[str, Any]
RIGHT = 4
"""A reply is judged right from this mean score on: the same but for a detail."""
FEW = 8
"""Fewer labels than this correct nothing."""
_NO_SLOPE = "not known: lengths differ between items or arms only"


@dataclass
class Judged:
    """The rows of judge steps; ``cluster`` names persona and material."""

    replies: list[Row] = field(default_factory=list)
    """judged.jsonl: arm, item_id, persona, kind, cluster, scores, mean, words, label."""
    comparisons: list[Row] = field(default_factory=list)
    """comparisons.jsonl: one, other (arms), outcome, flipped, cluster."""
    planted: list[Row] = field(default_factory=list)
    """calibration.jsonl: kind, what, label, mean, cluster."""


def read(folders: list[Path]) -> Judged:
    """Read what judge steps wrote, by their artifacts' folders."""
    found = Judged()
    for folder in folders:
        for name, rows in (
            ("judged", found.replies),
            ("comparisons", found.comparisons),
            ("calibration", found.planted),
        ):
            rows += [row for _, row in read_json_lines(folder / f"{name}.jsonl")]
    return found


def figures(judged: Judged, arms: list[str], resampler: Resampler, confidence: float) -> list[Row]:
    """Return the figures of every arm, in the order of the arms.

    Each has ``arm``, ``metric``, ``value``, ``low``, ``high`` (None where it cannot be known), ``n`` and ``note``:

    - judge_ability: Bradley and Terry's log ability among the arms (mean zero), ties after Davidson.
    - judge_flips: share of an arm's comparisons whose verdict turned with the order, and which count as ties; of this
      study's own replies, where certificate.json's measure of that is of known pairs.
    - judge_KIND_right, judge_KIND_right_corrected: share of replies scored 4 or more, and the same corrected for the
      errors that the judge makes on planted answers (Rogan and Gladen; interval: arXiv 2511.21140). It supposes that
      the judge errs on replies as it does on planted answers.
    - judge_KIND_corrected: the mean score corrected by people's labels of replies (prediction-powered inference,
      arXiv 2301.09633), where there are such labels of that arm.
    - judge_KIND_at_mean_length: the mean score as it would be, were all replies of one length: the slope of score on
      log words, within items and arms, taken away; None where lengths do not vary within them.
    - reply_words: how long the judged replies are.

    Args:
        judged: see ``read``.
        arms: their labels.
        resampler: the draws.
        confidence: e.g. 0.95.
    """
    found = _abilities(judged.comparisons, arms, resampler, confidence)
    for kind in PATTERNS.values():
        rows = [row for row in judged.replies if row["kind"] == kind and row["mean"] is not None]
        planted = [row for row in judged.planted if row["kind"] == kind and row["mean"] is not None]
        slope = _slope(rows) if rows else math.nan
        centre = float(np.mean([_log_words(row) for row in rows])) if rows else 0.0
        for arm in arms:
            own = [row for row in rows if row["arm"] == arm]
            if own:
                found += _rates(arm, kind, own, planted, resampler, confidence)
                found += _labelled(arm, kind, own, confidence)
                flat = [row["mean"] - slope * (_log_words(row) - centre) for row in own]
                note = f"{slope:+.2f} points for each e-fold of words" if math.isfinite(slope) else _NO_SLOPE
                found.append(_mean(arm, f"judge_{kind}_at_mean_length", flat, own, resampler, confidence, note))
    for arm in arms:
        own = [row for row in judged.replies if row["arm"] == arm and row["words"]]
        if own:
            found.append(_mean(arm, "reply_words", [row["words"] for row in own], own, resampler, confidence))
    return sorted(found, key=lambda row: arms.index(row["arm"]))


def _row(arm: str, metric: str, value: float, low: float, high: float, n: int, note: str = "") -> Row:
    numbers = {"value": value, "low": low, "high": high}
    plain = {key: round(float(one), 5) if math.isfinite(one) else None for key, one in numbers.items()}
    return {"arm": arm, "metric": metric} | plain | {"n": n, "note": note}


def _clusters(rows: list[Row]) -> Any:
    return np.unique(np.array([row["cluster"] for row in rows], np.str_), return_inverse=True)[1].astype(np.int64)


def _mean(
    arm: str, metric: str, values: list[float], rows: list[Row], resampler: Resampler, confidence: float, note: str = ""
) -> Row:
    numbers = np.array(values, np.float64)
    low, high = bootstrap_interval(numbers[None, :], _clusters(rows), resampler, confidence)
    return _row(arm, metric, float(numbers.mean()), low, high, len(values), note)


def _abilities(rows: list[Row], arms: list[str], resampler: Resampler, confidence: float) -> list[Row]:
    known = [row for row in rows if row["outcome"] is not None]
    if not known:
        return []
    place = {arm: number for number, arm in enumerate(arms)}
    first, second = (np.array([place[row[side]] for row in known], np.int64) for side in ("one", "other"))
    outcome = np.array([row["outcome"] for row in known], np.float64)
    fitted = bradley_terry(first, second, outcome, _clusters(known), len(arms), resampler, confidence)
    found = []
    for arm, number in place.items():
        own = [row for row in known if arm in (row["one"], row["other"])]
        if not own:
            continue
        note = "never lost to, or never won against, the others: only the prior holds it"
        note = note if number in fitted.separated else ""
        low, high = float(fitted.low[number]), float(fitted.high[number])
        found.append(_row(arm, "judge_ability", float(fitted.ability[number]), low, high, len(own), note))
        turned = [float(row["flipped"]) for row in own]
        found.append(_mean(arm, "judge_flips", turned, own, resampler, confidence))
    return found


def _rates(
    arm: str, kind: str, own: list[Row], planted: list[Row], resampler: Resampler, confidence: float
) -> list[Row]:
    right = [float(row["mean"] >= RIGHT) for row in own]
    found = [_mean(arm, f"judge_{kind}_right", right, own, resampler, confidence)]
    true, false = ([row for row in planted if row["label"] == label] for label in (SCALE, 0))
    if min(len(true), len(false)) < FEW:
        return found
    positive = effective_rate(np.array(right), _clusters(own))
    sensitivity = effective_rate(np.array([float(row["mean"] >= RIGHT) for row in true]), _clusters(true))
    specificity = effective_rate(np.array([float(row["mean"] < RIGHT) for row in false]), _clusters(false))
    fixed = rogan_gladen(positive, sensitivity, specificity, confidence)
    rates = [rate.hits / rate.trials for rate in (sensitivity, specificity)]
    note = f"the judge finds {rates[0]:.2f} of the right and {rates[1]:.2f} of the wrong planted answers"
    return [*found, _row(arm, f"judge_{kind}_right_corrected", fixed.value, fixed.low, fixed.high, len(own), note)]


def _labelled(arm: str, kind: str, own: list[Row], confidence: float) -> list[Row]:
    """Return the prediction-powered mean; nothing where too few of the arm's replies have people's labels."""
    seen, rest = [row for row in own if row["label"] is not None], [row for row in own if row["label"] is None]
    if len(seen) < FEW or not rest:
        return []
    numbers = _clusters(own)
    mask = np.array([row["label"] is not None for row in own])
    fixed = prediction_powered_mean(
        np.array([row["label"] for row in seen], np.float64),
        np.array([row["mean"] for row in seen], np.float64),
        np.array([row["mean"] for row in rest], np.float64),
        numbers[mask],
        numbers[~mask],
        confidence,
    )
    note = f"{len(seen)} labels; the judge earned the weight {fixed.trust:.2f}"
    return [_row(arm, f"judge_{kind}_corrected", fixed.value, fixed.low, fixed.high, len(own), note)]


def _slope(rows: list[Row]) -> float:
    """Return by how much the score changes with log words, between replies to one item and apart from whose they are.

    Least squares with an effect of each item and of each arm: a better arm that writes longer replies is not read as a
    leaning to length. NaN where, apart from these effects, lengths do not vary.
    """
    names = [[f"{row['persona']}/{row['item_id']}" for row in rows], [row["arm"] for row in rows]]
    effects = [np.equal.outer(np.array(of, np.str_), np.unique(of)).astype(np.float64) for of in names]
    both = np.array([[_log_words(row), row["mean"]] for row in rows], np.float64).reshape(-1, 2)
    left = np.hstack(effects)
    words, scores = (both - left @ np.linalg.lstsq(left, both, rcond=None)[0]).T
    spread = float(words @ words)
    return float(words @ scores) / spread if spread > 1e-9 else math.nan


def _log_words(row: Row) -> float:
    """Return the log of a reply's words; an empty reply counts as one word."""
    return math.log(max(1, row["words"]))
