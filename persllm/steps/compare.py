"""Compare: every arm's mean and cost with intervals, and paired contrasts with adjusted p-values."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from persllm import statistics
from persllm.errors import UserError
from persllm.execute import Context
from persllm.records import Generation, Score, read
from persllm.statistics import Floats, Ints, Resampler
from persllm.store import read_json, write_json

METRIC_ORDER = (
    "gold_log_likelihood",
    "who_accuracy",
    "when_accuracy",
    "who_accuracy_pmi",
    "when_accuracy_pmi",
    "character_accuracy",
    "false_premise_acceptance",
    "true_premise_denial",
    "bleu",
    "rouge_l",
    "chrf",
    "as_an_ai_rate",
)
"""Display order; metrics that are not named here follow by name."""

COSTS = ("train_seconds", "train_tokens", "prompt_tokens", "seconds_per_reply", "peak_memory_mb")
TABLE = ("arm", "metric", "mean", "low", "high", "n", "missing", *COSTS)
CONTRASTS = ("arm", "baseline", "metric", "difference", "low", "high", "p", "p_adjusted", "n_items", "detectable")

Key = tuple[str, str]
"""Persona and item id: ids are unique within a persona only."""
Series = dict[Key, dict[int, float]]
"""One arm's values of one metric: item, then seed; NaN where missing (null, or no finite number)."""


@dataclass
class Scores:
    """All scores of a study, relabelled with each cell's arm, persona and seed."""

    series: dict[str, dict[str, Series]] = field(default_factory=dict)
    """Arm, then metric."""
    clusters: dict[Key, str] = field(default_factory=dict)
    missing: dict[tuple[str, str, int, str], int] = field(default_factory=dict)
    """Arm, persona, seed and metric, to how many values are null."""

    def metrics(self, primary: str) -> list[str]:
        """Return the metrics in display order, the primary one first."""
        found = {metric for by_metric in self.series.values() for metric in by_metric}
        known = {name: place for place, name in enumerate(METRIC_ORDER)}
        return sorted(found, key=lambda m: (m != primary, known.get(m, len(known)), m))


def load_scores(cells: list[dict[str, Any]], inputs: dict[str, Path]) -> Scores:
    """Read each cell's scores.

    Args:
        cells: the compare step's cells.
        inputs: step id to artifacts folder.

    Raises:
        UserError: a bad line, or two scores of one item and metric in one file.
    """
    scores = Scores()
    for cell in cells:
        by_metric = scores.series.setdefault(cell["arm"], {})
        path = inputs[cell["evaluate"]] / "scores.jsonl"
        for score in read(Score, path):
            key, seed = (cell["persona"], score.item_id), cell["seed"]
            by_seed = by_metric.setdefault(score.metric, {}).setdefault(key, {})
            if seed in by_seed:
                raise UserError(f"{path}: item {score.item_id!r} has {score.metric!r} twice; expected one line each")
            value = math.nan if score.value is None or not math.isfinite(score.value) else float(score.value)
            by_seed[seed] = value
            scores.clusters[key] = f"{cell['persona']}/{score.cluster}"
            if math.isnan(value):
                place = (cell["arm"], cell["persona"], seed, score.metric)
                scores.missing[place] = scores.missing.get(place, 0) + 1
    return scores


def numbered(names: Sequence[str]) -> Ints:
    """Return each name's place among the sorted distinct names."""
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def matrix(series: Series, keys: list[Key]) -> Floats:
    """Return items x seeds, NaN where there is no value."""
    seeds = sorted({seed for by_seed in series.values() for seed in by_seed})
    rows = [[series[key].get(seed, math.nan) for seed in seeds] for key in keys]
    return np.array(rows, dtype=np.float64).reshape(len(keys), len(seeds))


@dataclass(frozen=True)
class Settings:
    """How to compare: the compare group's values and their draws."""

    confidence: float
    power: float
    resampler: Resampler


def arm_row(series: Series, clusters: dict[Key, str], settings: Settings) -> dict[str, Any]:
    """Return one arm's mean over items, its interval, and how many values there are and lack."""
    keys = sorted(series)
    values = matrix(series, keys)
    means = statistics.item_means(values)
    count = int(np.isfinite(means).sum())
    draws = statistics.resampled_item_means(values, numbered([persona for persona, _ in keys]), settings.resampler)
    numbers = numbered([clusters[key] for key in keys])
    low, high = statistics.bootstrap_interval(draws, numbers, settings.resampler, settings.confidence)
    missing = sum(math.isnan(value) for by_seed in series.values() for value in by_seed.values())
    mean = float(np.nanmean(means)) if count else math.nan
    return {"mean": mean, "low": low, "high": high, "n": count, "missing": missing}


def contrast_row(arm: Series, baseline: Series, clusters: dict[Key, str], settings: Settings) -> dict[str, Any]:
    """Return the paired difference ``arm - baseline`` over the items that both have, with its test and power."""
    keys = [
        key
        for key in sorted(arm.keys() & baseline.keys())
        if not all(map(math.isnan, arm[key].values())) and not all(map(math.isnan, baseline[key].values()))
    ]
    groups, numbers = numbered([persona for persona, _ in keys]), numbered([clusters[key] for key in keys])
    sides = [matrix(series, keys) for series in (arm, baseline)]
    differences = statistics.item_means(sides[0]) - statistics.item_means(sides[1])
    resampler = settings.resampler
    draws = [statistics.resampled_item_means(side, groups, resampler) for side in sides]
    low, high = statistics.bootstrap_interval(draws[0] - draws[1], numbers, resampler, settings.confidence)
    error = statistics.clustered_standard_error(differences, numbers)
    return {
        "difference": float(differences.mean()) if keys else math.nan,
        "low": low,
        "high": high,
        "p": statistics.sign_flip_p(differences, numbers, resampler.resamples, resampler.seed),
        "n_items": len(keys),
        "detectable": statistics.detectable_difference(error, settings.confidence, settings.power),
    }


def contrast_pairs(cells: list[dict[str, Any]]) -> list[Key]:
    """Return (arm, baseline) pairs: each arm against its baseline, each tuned arm against each prompted one."""
    tuned = {cell["arm"]: cell["tuned"] for cell in cells}
    wanted = [(cell["arm"], cell["baseline"]) for cell in cells]
    wanted += [(arm, other) for arm in tuned if tuned[arm] for other in tuned if not tuned[other]]
    kept: list[Key] = []
    for arm, other in wanted:
        if arm != other and (arm, other) not in kept and (other, arm) not in kept:
            kept.append((arm, other))
    place = {name: i for i, name in enumerate(tuned)}
    return sorted(kept, key=lambda pair: place[pair[0]])


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else math.nan


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known)) if len(known) == len(values) else None


def arm_costs(cells: list[dict[str, Any]], inputs: dict[str, Path]) -> dict[str, float]:
    """Return what one arm cost: training per persona and seed, and per reply; NaN where a step did not record it.

    A prompted arm trains for 0 seconds. ``peak_memory_mb`` is over its train and generate steps, in 10^6 bytes.
    """
    runs = {name: read_json(folder.parent / "run.json") or {} for name, folder in inputs.items()}
    replies: list[Generation] = []
    for name in sorted({cell["generate"] for cell in cells}):
        replies += sorted(read(Generation, inputs[name] / "generations.jsonl"), key=lambda g: g.item_id)

    def training(key: str) -> float:
        return _mean([_total([(runs[i].get("cost") or {}).get(key) for i in cell["train"]]) for cell in cells])

    used = sorted({name for cell in cells for name in (cell["generate"], *cell["train"])})
    peaks = [float(runs[name].get("peak_memory_bytes") or math.nan) for name in used]
    return {
        "train_seconds": training("train_seconds"),
        "train_tokens": training("train_tokens"),
        "prompt_tokens": _mean([reply.prompt_tokens for reply in replies]),
        "seconds_per_reply": _mean([reply.seconds for reply in replies]),
        "peak_memory_mb": float(np.max(peaks)) / 1e6,
    }


def number(value: Any) -> str:
    """Return a number's fixed text: six significant digits, whole above 100,000, empty for NaN; texts stay."""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return ""
    return f"{value + 0.0:.0f}" if abs(value) >= 1e5 else f"{value + 0.0:.6g}"


def to_csv(columns: Sequence[str], rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV with a header and fixed number texts."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([number(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def to_markdown(columns: Sequence[str], rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; what is not known is a dash."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[number(row[column]).replace("|", "\\|") or "-" for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def compute(
    cells: list[dict[str, Any]], scores: Scores, costs: dict[str, dict[str, float]], primary: str, settings: Settings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the table and of the contrasts, in configuration and display order."""
    metrics = scores.metrics(primary)
    table = [
        {"arm": arm, "metric": metric, **costs[arm]} | arm_row(by_metric.get(metric, {}), scores.clusters, settings)
        for arm, by_metric in scores.series.items()
        for metric in metrics
    ]
    contrasts = []
    for metric in metrics:
        rows = []
        for arm, other in contrast_pairs(cells):
            left, right = (scores.series.get(name, {}).get(metric, {}) for name in (arm, other))
            row = contrast_row(left, right, scores.clusters, settings)
            rows.append({"arm": arm, "baseline": other, "metric": metric, **row})
        for row, adjusted in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
            row["p_adjusted"] = float(adjusted)
        contrasts += rows
    return table, contrasts


def run(ctx: Context) -> None:
    """Write table.csv, contrasts.csv, both as Markdown, and missing.json."""
    chosen = ctx.config["compare"]
    resampler = Resampler(chosen["resamples"], chosen["seed"])
    settings = Settings(chosen["confidence"], chosen["power"], resampler)
    cells = ctx.config["cells"]
    scores = load_scores(cells, ctx.inputs)
    found = scores.metrics(ctx.config["primary"])
    if ctx.config["primary"] not in found:
        raise UserError(
            f"study.primary={ctx.config['primary']}: no evaluate step scored this metric; "
            f"choose one of {', '.join(found) or 'the metrics that evaluate.metrics makes'}"
        )
    costs = {arm: arm_costs([c for c in cells if c["arm"] == arm], ctx.inputs) for arm in scores.series}
    table, contrasts = compute(cells, scores, costs, ctx.config["primary"], settings)
    for name, columns, rows in (("table", TABLE, table), ("contrasts", CONTRASTS, contrasts)):
        (ctx.out / f"{name}.csv").write_text(to_csv(columns, rows), encoding="utf-8")
        (ctx.out / f"{name}.md").write_text(to_markdown(columns, rows), encoding="utf-8")
    lacking = [
        {"arm": arm, "persona": persona, "seed": seed, "metric": metric, "missing": count}
        for (arm, persona, seed, metric), count in sorted(scores.missing.items())
    ]
    write_json(ctx.out / "missing.json", {"cells": ctx.config["missing"], "values": lacking})
