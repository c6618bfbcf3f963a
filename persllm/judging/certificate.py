"""The certificate: what a judge shows on answers whose truth is known, against what is asked of it.

Where a measure has an interval (95 %, over resampled items), its worse end must keep the limit: a judge that may well
be below it has shown nothing. Whether the judge is of another family than the arms' base model is read off the names
of both (see persllm.judging.family); where these tell no family, that is not known and the certificate is not held.

Agreement with itself and turning with the order are also measured on this study's own replies (``arms``). These have no
known truth, and two arms may deserve a tie, so that they are told and decide nothing: all that decides is measured on
planted answers and known pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from persllm.judging import PATTERNS
from persllm.judging.bench import Row, Settled
from persllm.judging.planted import WORDINGS, Plant
from persllm.judging.reading import FIRST, SECOND
from persllm.statistics import Resampler, bootstrap_interval, krippendorff_alpha

LEAST = 8
"""Fewer cases than this measure nothing: what rests on them is not shown."""
_CONFIDENCE = 0.95
_RESAMPLES = 2000


@dataclass(frozen=True)
class Trial:
    """What a judge made of everything that it was tried on."""

    plants: list[Plant]
    scores: dict[str, list[int | None]]
    """By plant, a score for each repeat."""
    duels: dict[str, Settled]
    """The recorded answer (as ``one``) against another character's; a duel's cluster is its item, before the ``/``."""
    pads: dict[str, str]
    """Which side of a duel was padded: ``one``, ``other`` or none (empty)."""
    roles: dict[str, int | None]
    speakers: dict[str, int]
    """The place of the true speaker in each riddle."""
    characters: int
    """How many characters a riddle shows."""
    other_family: bool | None
    """Whether the judge is of another family than the model that the arms are made of; None where it is not known."""


@dataclass(frozen=True)
class Measure:
    """One thing that the certificate asks for."""

    name: str
    value: float
    limit: float
    most: bool
    """Whether the limit is the most that is borne, or the least that is asked."""
    n: int
    low: float = math.nan
    high: float = math.nan
    least: int = field(default=LEAST)
    unknown: str = "all the same, so nothing is shown"
    """Why there is no value, where there is none."""

    @property
    def bound(self) -> float:
        """The worse end of the interval; the value itself where it has none."""
        end = self.high if self.most else self.low
        return end if math.isfinite(end) else self.value

    @property
    def holds(self) -> bool:
        """Whether enough was measured, and it keeps the limit."""
        if self.n < self.least or not math.isfinite(self.value):
            return False
        return self.bound <= self.limit if self.most else self.bound >= self.limit

    def told(self) -> str:
        """Return value and limit in words."""
        if self.n < self.least:
            return f"{self.name}: {self.n} cases, too few to tell"
        if not math.isfinite(self.value):
            return f"{self.name}: {self.unknown}"
        end = "" if self.bound == self.value else f" ({'up' if self.most else 'down'} to {self.bound:.2f})"
        return f"{self.name}: {self.value:.2f}{end}, {'at most' if self.most else 'at least'} {self.limit:g} is asked"

    def row(self) -> Row:
        """Return what certificate.json holds; what is not known is null."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        plain = {key: round(one, 4) if math.isfinite(one) else None for key, one in numbers.items()}
        return (
            plain
            | {"n": self.n, "limit": self.limit, "limit_is": "most" if self.most else "least"}
            | {"holds": self.holds}
        )


def mean(scores: list[int | None]) -> float:
    """Return the mean of the repeats that there are; NaN for none."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else math.nan


def _numbers(names: list[str]) -> Any:
    return np.unique(np.array(names, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def _alpha(name: str, ratings: list[list[float]], clusters: list[str], limit: float) -> Measure:
    if not ratings:
        return Measure(name, math.nan, limit, False, 0)
    found = krippendorff_alpha(
        np.array(ratings, np.float64), _numbers(clusters), Resampler(_RESAMPLES, 0), _CONFIDENCE, "interval"
    )
    return Measure(name, found.value, limit, False, found.n, found.low, found.high)


def _item(case: str) -> str:
    return case.split("/")[0]


def _mean(
    name: str,
    values: dict[str, float],
    limit: float,
    most: bool,
    scale: tuple[float, float] = (0, 1),
    cluster: Callable[[str], str] = _item,
) -> Measure:
    """Return the mean of values by case; ``scale`` is what counts as 0 and as 1."""
    if not values:
        return Measure(name, math.nan, limit, most, 0)
    plain = (np.array([*values.values()], np.float64) - scale[0]) / (scale[1] - scale[0])
    clusters = _numbers([cluster(case) for case in values])
    low, high = bootstrap_interval(plain[None, :], clusters, Resampler(_RESAMPLES, 0), _CONFIDENCE)
    return Measure(name, float(plain.mean()), limit, most, len(plain), low, high)


def _agreement(trial: Trial, kind: str, limit: float) -> Measure:
    own = [plant for plant in trial.plants if plant.kind == kind and plant.label is not None]
    pairs = [[float(plant.label or 0), mean(trial.scores[plant.id])] for plant in own]
    return _alpha(f"agreement on {kind}", pairs, [plant.cluster for plant in own], limit)


def _retest(trial: Trial, limit: float) -> Measure:
    ratings = [[math.nan if s is None else float(s) for s in trial.scores[plant.id]] for plant in trial.plants]
    return _alpha("agreement with itself", ratings, [plant.cluster for plant in trial.plants], limit)


def _role(trial: Trial, limit: float) -> Measure:
    chance = 1 / trial.characters if trial.characters > 1 else 1.0
    right = (
        {case: float(place == trial.speakers[case]) for case, place in trial.roles.items() if place is not None}
        if chance < 1
        else {}
    )
    return _mean("finding the speaker, beyond chance", right, limit, False, (chance, 1.0))


def _position(trial: Trial, limit: float) -> Measure:
    """Return how much more often the first place is chosen than the second, whichever way."""
    leaning = {
        case: sum((one == FIRST) - (one == SECOND) for one in settled.orders) / 2
        for case, settled in trial.duels.items()
        if settled.outcome is not None
    }
    found = _mean("leaning to a place", leaning, limit, True)
    ends = sorted((abs(found.low), abs(found.high)))
    low = 0.0 if found.low <= 0 <= found.high else ends[0]
    return Measure(found.name, abs(found.value), limit, True, found.n, low, ends[1])


def _length(trial: Trial, limit: float) -> Measure:
    """Return how much padding a side moves the share of its wins, either way."""
    outcomes: dict[str, list[float]] = {"one": [], "other": []}
    for case, settled in trial.duels.items():
        if settled.outcome is not None and trial.pads[case]:
            outcomes[trial.pads[case]].append(settled.outcome)
    name = "leaning to length"
    if not all(outcomes.values()):
        return Measure(name, math.nan, limit, True, 0)
    moved = abs(float(np.mean(outcomes["one"]) - np.mean(outcomes["other"])))
    return Measure(name, moved, limit, True, sum(map(len, outcomes.values())))


def _meaning(trial: Trial, limit: float) -> Measure:
    """Return how often a right answer in other words gets a higher score than a wrong one in the reference's words.

    A judge that counts common words has it the wrong way round each time; one that guesses has half.
    """
    by_item: dict[str, dict[str, float]] = {}
    for plant in trial.plants:
        if plant.what in WORDINGS:
            by_item.setdefault(plant.cluster, {})[plant.what.removeprefix("padded ")] = mean(trial.scores[plant.id])
    right = {
        item: float(of["reworded"] > of["echoed"])
        for item, of in by_item.items()
        if len(of) == 2 and all(map(math.isfinite, of.values()))
    }
    return _mean("meaning before words", right, limit, False)


def _family(trial: Trial) -> Measure:
    value = math.nan if trial.other_family is None else float(trial.other_family)
    unknown = "not known, for the models' names do not tell it"
    return Measure("of another family than the arms", value, 1.0, False, 1, least=1, unknown=unknown)


def _turning(name: str, duels: dict[str, Settled], limit: float, cluster: Callable[[str], str] = _item) -> Measure:
    turned = {case: float(one.flipped) for case, one in duels.items() if one.flipped is not None}
    return _mean(name, turned, limit, True, cluster=cluster)


def on_arms(judged: list[Row], compared: list[Row], limits: Row) -> list[Measure]:
    """Return how steady the judge is on this study's own replies, which have no known truth; it decides nothing.

    Args:
        judged: rows of judged.jsonl: id, cluster, scores.
        compared: rows of comparisons.jsonl: id, cluster, orders.
        limits: the section ``judge.certificate``.
    """
    rows = [row for row in judged if row["scores"]]
    ratings = [[math.nan if one is None else float(one) for one in row["scores"]] for row in rows]
    itself = _alpha("agreement with itself on arms' replies", ratings, [r["cluster"] for r in rows], limits["retest"])
    met = {row["id"]: Settled(tuple(row["orders"])) for row in compared}
    cluster = {row["id"]: row["cluster"] for row in compared}
    turned = _turning("verdicts on arms' pairs that turn with the order", met, limits["flip"], cluster.__getitem__)
    return [itself, turned]


def measures(trial: Trial, limits: Row) -> list[Measure]:
    """Return everything that is asked of a judge.

    Args:
        trial: what it was tried on.
        limits: the section ``judge.certificate``.
    """
    settled = {case: one for case, one in trial.duels.items() if one.outcome is not None}
    lost = [
        *(score is None for scores in trial.scores.values() for score in scores),
        *(one is None for duel in trial.duels.values() for one in duel.orders),
        *(place is None for place in trial.roles.values()),
    ]
    return [
        *(_agreement(trial, kind, limits["agreement"]) for kind in PATTERNS.values()),
        _retest(trial, limits["retest"]),
        _role(trial, limits["role"]),
        _mean(
            "preferring the recorded answer",
            {case: float(one.outcome == 1) for case, one in settled.items()},
            limits["choice"],
            False,
        ),
        _meaning(trial, limits["choice"]),
        _turning("verdicts that turn with the order", trial.duels, limits["flip"]),
        _position(trial, limits["position"]),
        _length(trial, limits["length"]),
        Measure("verdicts missing", float(np.mean(lost)) if lost else math.nan, limits["missing"], True, len(lost)),
        _family(trial),
    ]


def by_kind(trial: Trial) -> list[Row]:
    """Return the mean score of each kind of planted answer, with its label, for people."""
    found = []
    for kind in PATTERNS.values():
        for what in dict.fromkeys(plant.what for plant in trial.plants if plant.kind == kind):
            own = [plant for plant in trial.plants if (plant.kind, plant.what) == (kind, what)]
            values = [value for plant in own if math.isfinite(value := mean(trial.scores[plant.id]))]
            told = round(sum(values) / len(values), 3) if values else None
            found.append({"kind": kind, "answer": what, "label": own[0].label, "mean": told, "n": len(values)})
    return found


def certificate(trial: Trial, limits: Row, judge: Row, arms: list[Measure] | None = None) -> Row:
    """Return what certificate.json holds.

    ``held`` says whether every measure keeps its limit, ``why`` in words what does not. ``arms`` is told beside.

    Args:
        trial: what the judge was tried on.
        limits: the section ``judge.certificate``.
        judge: who it is: name, identity, prompts' hashes, temperature, repeats.
        arms: see ``on_arms``.
    """
    found = measures(trial, limits)
    failed = [measure.told() for measure in found if not measure.holds]
    return {
        **judge,
        "held": not failed,
        "why": "; ".join(failed),
        "measures": {measure.name: measure.row() for measure in found},
        "arms": {measure.name: measure.row() for measure in arms or []},
        "planted": by_kind(trial),
    }
