"""What the arms of a study are worth: each arm's mean with its interval, and paired contrasts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from persllm import statistics
from persllm.errors import UserError
from persllm.metrics import catalogue, is_shared
from persllm.records import Score, read
from persllm.statistics import Floats, Ints, Resampler
from persllm.statistics.derived import Derived, derived_contrast, derived_estimate

Key = tuple[str, str]
"""Persona and item id: ids are unique within a persona and a metric only."""
Series = dict[Key, dict[int, float]]
"""One arm's values of one metric: item, then seed; NaN where missing (null, or no finite number)."""


@dataclass
class Scores:
    """All scores of a study, relabelled with each cell's arm, persona and seed."""

    series: dict[str, dict[str, Series]] = field(default_factory=dict)
    """Arm, then metric."""
    clusters: dict[str, dict[Key, str]] = field(default_factory=dict)
    """Metric, then item: items of different metrics may bear the same id."""
    missing: dict[tuple[str, str, int, str], int] = field(default_factory=dict)
    """Arm, persona, seed and metric, to how many values are null."""

    def metrics(self, primary: str, modules: Sequence[str], derived: Mapping[str, Derived]) -> list[str]:
        """Return the metrics in the order of the modules that make them, the primary one first, unknown ones last.

        Args:
            primary: the study's primary metric.
            modules: of persllm.metrics.
            derived: figures by name; those of which any arm has all components are among the metrics.
        """
        found = {metric for by_metric in self.series.values() for metric in by_metric}
        found |= {name for name, one in derived.items() if found.issuperset(one.components)}
        places = {name: place for place, name in enumerate(catalogue(modules))}
        return sorted(found, key=lambda m: (m != primary, places.get(m, len(places)), m))


def load_scores(cells: list[dict[str, Any]], inputs: dict[str, Path]) -> Scores:
    """Read each cell's scores.

    Args:
        cells: the compare step's cells.
        inputs: step id to artifacts folder.

    Raises:
        UserError: a bad line, or two scores of one item and metric in one cell.
    """
    scores = Scores()
    for cell in cells:
        by_metric = scores.series.setdefault(cell["arm"], {})
        for path, score in _rows(cell, inputs):
            key, seed = (cell["persona"], score.item_id), cell["seed"]
            by_seed = by_metric.setdefault(score.metric, {}).setdefault(key, {})
            if seed in by_seed:
                raise UserError(f"{path}: item {score.item_id!r} has {score.metric!r} twice; expected one line each")
            value = math.nan if score.value is None or not math.isfinite(score.value) else float(score.value)
            by_seed[seed] = value
            # Told apart by persona, unless it is one question that all personas are asked.
            cluster = score.cluster if is_shared(score.metric) else f"{cell['persona']}/{score.cluster}"
            scores.clusters.setdefault(score.metric, {})[key] = cluster
            if math.isnan(value):
                place = (cell["arm"], cell["persona"], seed, score.metric)
                scores.missing[place] = scores.missing.get(place, 0) + 1
    return scores


def _rows(cell: dict[str, Any], inputs: dict[str, Path]) -> Iterator[tuple[Path, Score]]:
    for step in (cell["evaluate"], *cell["scores"].values()):
        path = inputs[step] / "scores.jsonl"
        yield from ((path, score) for score in read(Score, path))
    if cell.get("judge") in inputs:
        # One file holds all arms of a persona and seed.
        path = inputs[cell["judge"]] / "scores.jsonl"
        yield from ((path, score) for score in read(Score, path) if score.arm == cell["arm"])


def numbered(names: Iterable[str]) -> Ints:
    """Return each name's place among the sorted distinct names."""
    return np.unique(np.array(list(names), dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def matrix(series: Series, keys: list[Key]) -> Floats:
    """Return items x seeds, NaN where there is no value."""
    seeds = sorted({seed for by_seed in series.values() for seed in by_seed})
    rows = [[series.get(key, {}).get(seed, math.nan) for seed in seeds] for key in keys]
    return np.array(rows, dtype=np.float64).reshape(len(keys), len(seeds))


@dataclass(frozen=True)
class Settings:
    """How to compare: the compare group's values and their draws."""

    confidence: float
    power: float
    resampler: Resampler


class Column:
    """One arm's values of one metric, with the draws that all its intervals share.

    Args:
        series: the values.
        clusters: each item's cluster.
        settings: how to compare.
    """

    def __init__(self, series: Series, clusters: dict[Key, str], settings: Settings) -> None:
        self.series, self.settings = series, settings
        self.keys = sorted(series)
        self.values = matrix(series, self.keys)
        self.means = statistics.item_means(self.values)
        # Numbered over all arms' items, so that the draws of a persona's seeds are the same for every arm.
        personas = sorted({persona for persona, _ in clusters})
        self.groups = np.array([personas.index(persona) for persona, _ in self.keys], dtype=np.int64)
        self.clusters = numbered(clusters[key] for key in self.keys)
        self.missing = sum(math.isnan(value) for by_seed in series.values() for value in by_seed.values())

    @cached_property
    def varies(self) -> bool:
        """Whether seeds make a difference: greedy replies of a prompted arm are the same for all of them."""
        known = np.isfinite(self.values)
        low, high = (np.where(known, self.values, end) for end in (np.inf, -np.inf))
        return bool((high.max(axis=1, initial=-np.inf) > low.min(axis=1, initial=np.inf)).any())

    @cached_property
    def draws(self) -> Floats:
        """Item means with each persona's seeds resampled, resamples (or 1) x items."""
        return statistics.resampled_item_means(self.values, self.groups, self.settings.resampler)

    def places(self, keys: list[Key]) -> Ints:
        """Return where some of its items stand."""
        at = {key: place for place, key in enumerate(self.keys)}
        return np.array([at[key] for key in keys], dtype=np.int64)


def _confidence(settings: Settings, clusters: Ints) -> float:
    """Return the confidence to ask of a percentile interval: wider for few clusters, which it would undercover."""
    count = len(np.unique(clusters))
    return statistics.expanded_confidence(settings.confidence, count) if count > 1 else settings.confidence


def arm_row(column: Column) -> dict[str, Any]:
    """Return one arm's mean over items, its interval, and how many values there are and lack."""
    settings = column.settings
    count = int(np.isfinite(column.means).sum())
    confidence = _confidence(settings, column.clusters[np.isfinite(column.means)])
    low, high = statistics.bootstrap_interval(column.draws, column.clusters, settings.resampler, confidence)
    mean = float(np.nanmean(column.means)) if count else math.nan
    return {"mean": mean, "low": low, "high": high, "n": count, "missing": column.missing}


def contrast_row(arm: Column, baseline: Column) -> dict[str, Any]:
    """Return the paired difference ``arm - baseline`` over the items that both have, with its test and power.

    Where trained models differ between seeds, interval and p are the mixed model's, which counts what differs between
    them; else the bootstrap's and the sign-flip test's.
    """
    settings = arm.settings
    known = [{key for key, mean in zip(c.keys, c.means, strict=True) if math.isfinite(mean)} for c in (arm, baseline)]
    keys = sorted(known[0] & known[1])
    sides = [(column, column.places(keys)) for column in (arm, baseline)]
    clusters = arm.clusters[sides[0][1]]
    differences = sides[0][0].means[sides[0][1]] - sides[1][0].means[sides[1][1]]
    resampler = settings.resampler
    if keys and (arm.varies or baseline.varies):
        first, second = (column.values[places] for column, places in sides)
        mixed = statistics.mixed_difference(first, second, arm.groups[sides[0][1]], clusters, settings.confidence)
        low, high, p, error, test = mixed.low, mixed.high, mixed.p, mixed.standard_error, "mixed model"
        degrees = mixed.degrees
    else:
        draws = [column.draws[:, places] for column, places in sides]
        confidence = _confidence(settings, clusters)
        low, high = statistics.bootstrap_interval(draws[0] - draws[1], clusters, resampler, confidence)
        p = statistics.sign_flip_p(differences, clusters, resampler.resamples, resampler.seed)
        error, test = statistics.clustered_standard_error(differences, clusters), "sign flip"
        degrees = math.inf
    return {
        "difference": float(differences.mean()) if keys else math.nan,
        "low": low,
        "high": high,
        "p": p,
        "n_items": len(keys),
        "detectable": statistics.detectable_difference(error, settings.confidence, settings.power, degrees),
        "test": test,
    }


class Components:
    """Several metrics' values of some arms, cut to the same items, for figures that are made of their means.

    Args:
        scores: all scores.
        derived: the figure.
        settings: how to compare.
    """

    def __init__(self, scores: Scores, derived: Derived, settings: Settings) -> None:
        self.scores, self.derived, self.settings = scores, derived, settings
        clusters = {key: name for part in derived.components for key, name in scores.clusters.get(part, {}).items()}
        self.keys = sorted(clusters)
        self.groups = numbered(persona for persona, _ in self.keys)
        self.clusters = numbered(clusters[key] for key in self.keys)

    def values(self, arm: str) -> Floats:
        """Return an arm's values, components x items x seeds."""
        series = [self.scores.series[arm].get(part, {}) for part in self.derived.components]
        seeds = sorted({seed for one in series for by_seed in one.values() for seed in by_seed}) or [0]
        found = np.full((len(series), len(self.keys), len(seeds)), np.nan)
        for row, one in enumerate(series):
            for place, key in enumerate(self.keys):
                for seed, value in one.get(key, {}).items():
                    found[row, place, seeds.index(seed)] = value
        return found

    def arm_row(self, arm: str) -> dict[str, Any]:
        """Return one arm's figure, its interval, and how many items it is made of."""
        values, settings = self.values(arm), self.settings
        found = derived_estimate(
            self.derived, values, self.groups, self.clusters, settings.resampler, _confidence(settings, self.clusters)
        )
        missing = sum(
            math.isnan(value)
            for part in self.derived.components
            for by_seed in self.scores.series[arm].get(part, {}).values()
            for value in by_seed.values()
        )
        return {"mean": found.value, "low": found.low, "high": found.high, "n": found.n, "missing": missing}

    def contrast_row(self, arm: str, baseline: str) -> dict[str, Any]:
        """Return the paired difference of two arms' figures; what it would have detected is not known."""
        settings = self.settings
        found = derived_contrast(
            self.derived, self.values(arm), self.values(baseline), self.groups, self.clusters, settings.resampler,
            _confidence(settings, self.clusters),
        )  # fmt: skip
        return found._asdict() | {"detectable": math.nan, "test": "label swap"}
