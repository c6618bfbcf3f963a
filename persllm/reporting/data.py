"""Everything that the report shows, read from the steps' folders."""

from __future__ import annotations

import csv
import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persllm import judging, metrics
from persllm.execute import Context
from persllm.metrics import has_direction, lower_is_better
from persllm.records import Generation, Item, Score, read, read_json_lines
from persllm.store import read_json

Row = dict[str, Any]

CERTIFICATE = "artifacts/certificate.json"
"""Of a judge step."""
VERBS = ("run", "submit", "retry", "compare", "report")
"""Verbs that take a study's overrides, so that a recorded command tells how to make the study again."""


@dataclass(frozen=True)
class Arm:
    """One arm, and its place in the configuration (which decides its colour)."""

    name: str
    tuned: bool
    reference: bool
    """Whether it is the model that nobody told who to be: neither tuned nor prompted."""
    baseline: str
    place: int

    @property
    def kind(self) -> str:
        """``tuned``, ``prompted`` or ``reference``."""
        return "tuned" if self.tuned else "reference" if self.reference else "prompted"


@dataclass(frozen=True)
class Contrast:
    """A row of contrasts.csv; numbers are None where they are not known."""

    arm: str
    baseline: str
    metric: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    n_items: int
    detectable: float | None
    test: str
    """How p was got."""
    alpha: float

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` (``different`` without a better way) or ``not told apart``, from the adjusted p."""
        if self.p_adjusted is None or self.difference is None or self.p_adjusted >= self.alpha:
            return "not told apart"
        if not has_direction(self.metric):
            return "different"
        return "better" if (self.difference < 0) == lower_is_better(self.metric) else "worse"

    def flipped(self) -> Contrast:
        """Return the same contrast seen from the other arm."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        difference = None if self.difference is None else -self.difference
        rest = (self.p, self.p_adjusted, self.n_items, self.detectable, self.test, self.alpha)
        return Contrast(self.baseline, self.arm, self.metric, difference, low, high, *rest)


@dataclass(frozen=True)
class Curve:
    """One training run's losses: rows of ``step``, ``loss``, ``val_loss``; None where not measured."""

    arm: str
    persona: str
    seed: int
    objective: str
    rows: list[Row]


@dataclass
class Receipt:
    """One step behind the numbers."""

    id: str
    fingerprint: str | None
    version: int | None
    config: Any
    run: Row
    files: dict[str, str]
    """Artifact name to sha256."""
    inputs: dict[str, str]
    """Role to step id."""
    local: Row = field(default_factory=dict)
    """What was planned for it and changes no result."""


@dataclass
class Study:
    """What the page is made of."""

    name: str
    primary: str
    settings: Row
    """The compare group: resamples, confidence, power, seed."""
    cells: list[Row]
    arms: dict[str, Arm]
    metrics: list[str]
    table: dict[tuple[str, str], Row]
    contrasts: list[Contrast]
    missing_cells: list[str]
    missing_values: list[Row]
    items: dict[tuple[str, str], Item]
    scores: dict[tuple[str, int, str, str], dict[str, float | None]]
    """Arm, seed, persona and item, to metric and value."""
    clusters: set[tuple[str, str]]
    generations: dict[tuple[str, int, str, str], Generation]
    curves: list[Curve]
    receipts: dict[str, Receipt] = field(default_factory=dict)
    compare: str = ""
    """The compare step's id."""
    families: dict[str, list[str]] = field(default_factory=dict)
    """Which metrics stand together, in order."""
    figures: dict[str, list[Row]] = field(default_factory=dict)
    """By family: numbers that are no means over items."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""
    judge: Row | None = None
    """Who judged, whether the certificate is held, and that in words; None where nobody judged."""
    certificates: list[Row] = field(default_factory=list)
    """What each judge step measured of the judge."""

    def heads(self, metric: str) -> bool:
        """Return whether a metric may stand in the headline: no self-report, and no judge without a certificate."""
        if metric in judging.METRICS:
            return bool(self.judge and self.judge["held"])
        return metrics.known(metric).headline

    def label(self, metric: str) -> str:
        """Return in a word or two why a metric stands in no headline; empty where it may, or where that is plain."""
        if metric in judging.METRICS:
            return "" if self.heads(metric) else "no certificate"
        return metrics.known(metric).label

    @property
    def alpha(self) -> float:
        """The level of the tests."""
        return 1 - float(self.settings["confidence"])

    @property
    def personas(self) -> list[str]:
        """Personas in order of configuration."""
        return list(dict.fromkeys(cell["persona"] for cell in self.cells))

    @property
    def seeds(self) -> list[int]:
        """Seeds in order."""
        return sorted({cell["seed"] for cell in self.cells})

    def find(self, arm: str, other: str, metric: str) -> Contrast | None:
        """Return the contrast of two arms, in the direction asked for."""
        for row in self.contrasts:
            if row.metric == metric and (row.arm, row.baseline) == (arm, other):
                return row
            if row.metric == metric and (row.arm, row.baseline) == (other, arm):
                return row.flipped()
        return None

    @property
    def command(self) -> str | None:
        """The command that makes this study, from what the compare step's run.json recorded."""
        verb, *words = self.receipts[self.compare].run.get("command") or [""]
        overrides = [word for word in words if "=" in word and not word.startswith("-")]
        return f"persllm run {shlex.join(overrides)}".rstrip() if verb in VERBS else None


def _table(path: Path) -> list[Row]:
    texts = ("arm", "metric", "baseline", "test", "persona", "module", "stage", "note")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v if k in texts else (float(v) if v else None) for k, v in row.items()} for row in rows]


def read_receipts(first: Path, outputs: Path) -> dict[str, Receipt]:
    """Return every step behind the one whose directory is given, inputs before users."""
    found: dict[str, Receipt] = {}

    def visit(name: str, fingerprint: str | None) -> None:
        if name in found:
            return
        directory = outputs / name
        inputs = read_json(directory / "inputs.json") or {}
        for entry in inputs.values():
            visit(entry["id"], entry.get("fingerprint"))
        meaning = read_json(directory / "config.json") or {}
        manifest = read_json(directory / "manifest.json") or {}
        found[name] = Receipt(
            id=name,
            fingerprint=fingerprint,
            version=meaning.get("version"),
            config=meaning.get("config"),
            run=read_json(directory / "run.json") or {},
            files={file: entry["sha256"] for file, entry in manifest.items()},
            inputs={role: entry["id"] for role, entry in inputs.items()},
            local=meaning.get("local") or {},
        )

    for entry in (read_json(first / "inputs.json") or {}).values():
        visit(entry["id"], entry.get("fingerprint"))
    return found


def _curves(cells: list[Row], inputs: dict[str, Path]) -> list[Curve]:
    found = []
    for cell in cells:
        for name in cell["train"]:
            path = inputs[name] / "curves.jsonl"
            rows = [row for _, row in read_json_lines(path)] if path.is_file() else []
            config = (read_json(inputs[name].parent / "config.json") or {}).get("config") or {}
            phase = " ".join(filter(None, (str(config.get("objective", "train")), config.get("stage"))))
            found.append(Curve(cell["arm"], cell["persona"], cell["seed"], phase, rows))
    return found


def load(ctx: Context) -> Study:
    """Read the tables, the steps behind them, and all items, replies and scores."""
    compared = ctx.inputs["compare"]
    config = (read_json(compared.parent / "config.json") or {})["config"]
    cells, alpha = config["cells"], 1 - float(config["compare"]["confidence"])
    table, missing = _table(compared / "table.csv"), read_json(compared / "missing.json") or {}
    first = {cell["arm"]: cell for cell in reversed(cells)}
    names = list(dict.fromkeys(cell["arm"] for cell in cells))
    contrasts = [
        Contrast(**{**row, "n_items": int(row["n_items"])}, alpha=alpha) for row in _table(compared / "contrasts.csv")
    ]
    study = Study(
        name=config["study"],
        primary=config["primary"],
        settings=config["compare"],
        cells=cells,
        arms={
            name: Arm(name, first[name]["tuned"], first[name].get("reference", False), first[name]["baseline"], place)
            for place, name in enumerate(names)
        },
        metrics=list(dict.fromkeys(row["metric"] for row in table)),
        table={(row["arm"], row["metric"]): row for row in table},
        contrasts=contrasts,
        missing_cells=missing.get("cells", []),
        missing_values=missing.get("values", []),
        items={},
        scores={},
        clusters=set(),
        generations={},
        curves=_curves(cells, ctx.inputs),
        receipts=read_receipts(ctx.directory, ctx.outputs),
        compare=ctx.input_ids["compare"],
        notes=missing.get("notes", []),
        judge=read_json(compared / "judge.json"),
        certificates=[
            read_json(ctx.outputs / id / "artifacts" / "certificate.json") for id in config.get("judges", [])
        ],
    )
    study.families = _families(study, config["metrics"])
    for row in _table(compared / "figures.csv"):
        of = judging.FAMILY if row["module"] == "judge" else metrics.family(row["module"])
        study.figures.setdefault(of, []).append(row)
    for cell in cells:
        _add_cell(study, cell, ctx.inputs)
    return study


def _families(study: Study, modules: list[str]) -> dict[str, list[str]]:
    """Return the study's metrics by family, the primary one's first; those of no known module come last."""
    owner = {name: metrics.family(module) for module in modules for name in metrics.module(module).METRICS}
    owner |= dict.fromkeys(judging.METRICS, judging.FAMILY)
    found: dict[str, list[str]] = {}
    for metric in study.metrics:
        found.setdefault(owner.get(metric, "Other"), []).append(metric)
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _add_cell(study: Study, cell: Row, inputs: dict[str, Path]) -> None:
    """Add a cell's items, scores and replies under its own arm, persona and seed."""
    arm, seed, persona = cell["arm"], cell["seed"], cell["persona"]
    for item in read(Item, inputs[cell["evaluate"]] / "items.jsonl"):
        study.items.setdefault((persona, item.id), item)
    for score in read(Score, inputs[cell["evaluate"]] / "scores.jsonl"):
        study.scores.setdefault((arm, seed, persona, score.item_id), {})[score.metric] = _finite(score.value)
        study.clusters.add((persona, score.cluster))
    for reply in read(Generation, inputs[cell["generate"]] / "generations.jsonl"):
        study.generations[(arm, seed, persona, reply.item_id)] = reply
