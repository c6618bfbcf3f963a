"""Compare: every arm's mean and cost with intervals, and paired contrasts with adjusted p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from persllm import metrics, statistics
from persllm.comparison import Column, Components, Key, Scores, Settings, arm_row, contrast_row, load_scores
from persllm.errors import UserError
from persllm.execute import Context
from persllm.judging import pool
from persllm.judging.standing import standing
from persllm.records import Generation, read
from persllm.statistics import Resampler
from persllm.statistics.derived import Derived
from persllm.store import read_json, write_json
from persllm.tables import to_csv, to_markdown

COSTS = ("train_seconds", "train_tokens", "prompt_tokens", "seconds_per_reply", "peak_memory_mb")
TABLE = ("arm", "metric", "mean", "low", "high", "n", "missing", *COSTS)
CONTRASTS = (
    "arm",
    "baseline",
    "metric",
    "difference",
    "low",
    "high",
    "p",
    "p_adjusted",
    "n_items",
    "detectable",
    "test",
)
FIGURES = ("arm", "persona", "seed", "module", "stage", "metric", "value", "low", "high", "n", "note")


def contrast_pairs(cells: list[dict[str, Any]], ladder: bool = False) -> list[Key]:
    """Return (arm, baseline) pairs.

    Each arm against its baseline, and each tuned arm against each prompted one; where arms form a ladder, also each
    tuned arm against the tuned arm before it, which is what its ingredient does. A baseline none of whose cells is
    there (they stand among the missing ones) is contrasted with nothing.
    """
    tuned = {cell["arm"]: cell["tuned"] for cell in cells}
    wanted = [(cell["arm"], cell["baseline"]) for cell in cells]
    wanted += [(arm, other) for arm in tuned if tuned[arm] for other in tuned if not tuned[other]]
    steps = [arm for arm in tuned if tuned[arm]]
    wanted += zip(steps[1:], steps, strict=False) if ladder else []
    kept: list[Key] = []
    for arm, other in wanted:
        if other in tuned and arm != other and (arm, other) not in kept and (other, arm) not in kept:
            kept.append((arm, other))
    place = {name: i for i, name in enumerate(tuned)}
    return sorted(kept, key=lambda pair: place[pair[0]])


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else math.nan


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known)) if len(known) == len(values) else None


def _cost(run: dict[str, Any], key: str) -> float | None:
    spent = run.get("cost") or {}
    if "steer_seconds" in spent:
        return float(spent["steer_seconds"]) if key == "train_seconds" else 0.0
    return spent.get(key)


def arm_costs(cells: list[dict[str, Any]], inputs: dict[str, Path]) -> dict[str, float]:
    """Return what one arm cost: training per persona and seed, and per reply; NaN where a step did not record it.

    A prompted arm trains for 0 seconds; what a steered one spends on finding its directions counts as training.
    ``peak_memory_mb`` is over its train (steer) and generate steps, in 10^6 bytes.
    """
    runs = {name: read_json(folder.parent / "run.json") or {} for name, folder in inputs.items()}
    replies: list[Generation] = []
    for name in sorted({cell["generate"] for cell in cells}):
        replies += sorted(read(Generation, inputs[name] / "generations.jsonl"), key=lambda g: g.item_id)

    def training(key: str) -> float:
        return _mean([_total([_cost(runs[i], key) for i in (*cell["train"], *cell["steer"])]) for cell in cells])

    used = sorted({name for cell in cells for name in (cell["generate"], *cell["train"], *cell["steer"])})
    peaks = [float(runs[name].get("peak_memory_bytes") or math.nan) for name in used]
    return {
        "train_seconds": training("train_seconds"),
        "train_tokens": training("train_tokens"),
        "prompt_tokens": _mean([reply.prompt_tokens for reply in replies]),
        "seconds_per_reply": _mean([reply.seconds for reply in replies]),
        "peak_memory_mb": float(np.max(peaks)) / 1e6,
    }


def derived(modules: Sequence[str]) -> dict[str, Derived]:
    """Return the figures of some metric modules that are made of several metrics' means, by name."""
    return {one.name: one for name in modules for one in metrics.derived(name)}


def compute(
    cells: list[dict[str, Any]],
    scores: Scores,
    costs: dict[str, dict[str, float]],
    primary: str,
    modules: Sequence[str],
    settings: Settings,
    ladder: bool = False,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the table and of the contrasts, in configuration's order and that of the metrics."""
    made = derived(modules)
    table: dict[tuple[str, str], dict[str, Any]] = {}
    contrasts = []
    order = scores.metrics(primary, modules, made)
    for metric in order:
        compare = _Derived(scores, made[metric], settings) if metric in made else _Plain(scores, metric, settings)
        for arm in scores.series:
            table[arm, metric] = {"arm": arm, "metric": metric, **costs[arm]} | compare.arm(arm)
        rows: list[dict[str, Any]] = [
            {"arm": arm, "baseline": other, "metric": metric} | compare.contrast(arm, other)
            for arm, other in contrast_pairs(cells, ladder)
        ]
        for row, adjusted in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
            row["p_adjusted"] = float(adjusted)
        contrasts += rows
    return [table[arm, metric] for arm in scores.series for metric in order], contrasts


class _Plain:
    """Rows of a metric that is a mean over items."""

    def __init__(self, scores: Scores, metric: str, settings: Settings) -> None:
        clusters = scores.clusters[metric]
        self.columns = {arm: Column(of.get(metric, {}), clusters, settings) for arm, of in scores.series.items()}

    def arm(self, arm: str) -> dict[str, Any]:
        return arm_row(self.columns[arm])

    def contrast(self, arm: str, other: str) -> dict[str, Any]:
        return contrast_row(self.columns[arm], self.columns[other])


class _Derived:
    """Rows of a figure that is made of several metrics' means."""

    def __init__(self, scores: Scores, derived: Derived, settings: Settings) -> None:
        self.components = Components(scores, derived, settings)

    def arm(self, arm: str) -> dict[str, Any]:
        return self.components.arm_row(arm)

    def contrast(self, arm: str, other: str) -> dict[str, Any]:
        return self.components.contrast_row(arm, other)


def beside(cells: list[dict[str, Any]], inputs: dict[str, Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the figures that are no means over items, and the distinct notes of what was left out."""
    figures: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    for cell in cells:
        common = {key: cell[key] for key in ("arm", "persona", "seed")}
        for module, step in cell["scores"].items():
            for row in read_json(inputs[step] / "figures.json") or []:
                numbers = {key: math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high")}
                figures.append(common | {"module": module} | row | numbers)
            notes |= dict.fromkeys(read_json(inputs[step] / "notes.json") or [])
    return figures, list(notes)


def judged(folders: list[Path], arms: list[str], settings: Settings) -> list[dict[str, Any]]:
    """Return what all judge steps give together, as rows of figures: of all personas and seeds."""
    rows = pool.figures(pool.read(folders), arms, settings.resampler, settings.confidence)
    common = {"persona": "", "seed": "", "module": "judge", "stage": ""}
    numbers = ("value", "low", "high")
    return [common | row | {key: math.nan if row[key] is None else float(row[key]) for key in numbers} for row in rows]


def run(ctx: Context) -> None:
    """Write table.csv, contrasts.csv and figures.csv, all three as Markdown too, missing.json and judge.json."""
    chosen = ctx.config["compare"]
    settings = Settings(chosen["confidence"], chosen["power"], Resampler(chosen["resamples"], chosen["seed"]))
    cells, primary, modules = ctx.config["cells"], ctx.config["primary"], ctx.config["metrics"]
    scores = load_scores(cells, ctx.inputs)
    folders = [ctx.inputs[step] for step in ctx.config.get("judges", [])]
    held = standing(folders, ctx.config["unjudged"]) if "judges" in ctx.config else None
    if held:
        held.require(primary)
    found = scores.metrics(primary, modules, derived(modules))
    if primary not in found:
        raise UserError(
            f"study.primary={primary}: nothing scored this metric; "
            f"choose one of {', '.join(found) or 'the metrics that evaluate.metrics makes'}"
        )
    costs = {arm: arm_costs([c for c in cells if c["arm"] == arm], ctx.inputs) for arm in scores.series}
    table, contrasts = compute(cells, scores, costs, primary, modules, settings, ctx.config.get("ladder", False))
    figures, notes = beside(cells, ctx.inputs)
    if held:
        figures += judged(folders, list(scores.series), settings)
        notes += [note for folder in folders for note in read_json(folder / "notes.json") or []]
    for name, columns, rows in (
        ("table", TABLE, table),
        ("contrasts", CONTRASTS, contrasts),
        ("figures", FIGURES, figures),
    ):
        (ctx.out / f"{name}.csv").write_text(to_csv(columns, rows), encoding="utf-8")
        (ctx.out / f"{name}.md").write_text(to_markdown(columns, rows), encoding="utf-8")
    lacking = [
        {"arm": arm, "persona": persona, "seed": seed, "metric": metric, "missing": count}
        for (arm, persona, seed, metric), count in sorted(scores.missing.items())
    ]
    write_json(ctx.out / "missing.json", {"cells": ctx.config["missing"], "values": lacking, "notes": notes})
    write_json(ctx.out / "judge.json", held and asdict(held))
