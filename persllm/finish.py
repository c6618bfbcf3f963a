"""How a study ends: compare and report over the cells that are whole on disk, from a record that is plain JSON.

The record stands in for the plan where nothing may be composed any more, as in the last job of a submission.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm.compose import Cell, Resolved
from persllm.nodes import Step, make_step, plain
from persllm.plan import Plan, PlannedCell


@dataclass(frozen=True)
class StudyRecord:
    """What of a study outlives its plan. Every field is JSON."""

    study: str
    folder: str
    """The study's folder under outputs/studies/."""
    fingerprint: str
    primary: str
    metrics: list[str]
    """Modules of persllm.metrics, in the order in which their numbers are shown."""
    compare: dict[str, Any]
    """The section ``compare`` of the configuration."""
    ladder: bool
    """Whether each tuned arm is also contrasted with the tuned arm before it."""
    track: dict[str, Any]
    """What its steps tell W&B: mode, project, entity, group."""
    cells: list[dict[str, Any]]
    """Arm, persona, seed, whether tuned or a reference, the baseline's label, and the ids of the cell's steps."""
    steps: dict[str, str]
    """Every step up to evaluate, in order: id and fingerprint."""


def record(plan: Plan) -> StudyRecord:
    """Return a plan's record."""
    study, track = plan.resolved.study, plan.resolved.config.track
    return StudyRecord(
        study=study.name,
        folder=plan.name,
        fingerprint=plan.fingerprint,
        primary=study.primary,
        metrics=list(dict.fromkeys(name for cell in plan.cells for name in cell.cell.config.evaluate.metrics)),
        compare=plain(plan.resolved.config.compare),
        ladder=study.ladder,
        track={"mode": track.mode.value, "project": track.project, "entity": track.entity, "group": plan.name},
        cells=[_row(planned, plan.resolved) for planned in plan.cells],
        steps={step.id: step.fingerprint for step in plan.steps},
    )


def baseline_of(cell: Cell, resolved: Resolved) -> str:
    """Return the baseline arm's label for a cell: the variant of the baseline method with the same swept values.

    The baseline's own variants are compared with the first of them.
    """
    arms = {c.arm: c for c in resolved.cells if c.arm.split("[")[0] == resolved.study.baseline}
    for label, other in arms.items():
        if cell.arm not in arms and dict(other.variant).items() <= dict(cell.variant).items():
            return label
    return next(iter(arms))


def _row(planned: PlannedCell, resolved: Resolved) -> dict[str, Any]:
    cell = planned.cell
    method = cell.config.method
    return {
        "arm": cell.arm,
        "persona": cell.persona,
        "seed": cell.seed,
        "tuned": method.tune is not None,
        # Nobody tells the model who to be: what the others are measured from, and no way of prompting.
        "reference": method.tune is None and method.steer is None and method.prompt.recipe == "none",
        "baseline": baseline_of(cell, resolved),
        "evaluate": planned.evaluate.id,
        "scores": {step.config["metric"]: step.id for step in planned.scores},
        "generate": planned.generate.id,
        "steer": [step.id for role, step in planned.generate.inputs.items() if role == "steer"],
        "train": [step.id for step in planned.train],
        **({"judge": planned.judge.id} if planned.judge else {}),
    }


def _base(cell: dict[str, Any]) -> list[str]:
    """Return the steps without which a cell is not there at all."""
    return [cell["evaluate"], cell["generate"], *cell["train"], *cell["steer"]]


def _parts(cell: dict[str, Any]) -> list[str]:
    return [*_base(cell), *cell["scores"].values()]


def _scored(cell: dict[str, Any], whole: set[str]) -> dict[str, Any]:
    """Return a cell with those of its metrics that were scored."""
    return cell | {"scores": {metric: step for metric, step in cell["scores"].items() if step in whole}}


def _cell_name(cell: dict[str, Any]) -> str:
    return f"{cell['arm']} {cell['persona']} s{cell['seed']}"


def known_step(id: str, fingerprint: str) -> Step:
    """Return a step of which only the id and the fingerprint are known: enough to find it and to depend on it."""
    name, _, folder = id.partition("/")
    return Step(name, folder.rpartition("-")[0], {}, fingerprint=fingerprint)


def finish(study: StudyRecord, outputs: Path) -> tuple[Step, Step]:
    """Return the compare and report steps over the cells that are whole on disk; the others are named as missing.

    A score step that is not done takes only its metric away; a judge step that is not done stands under ``unjudged``.
    """
    steps = {id: known_step(id, fingerprint) for id, fingerprint in study.steps.items()}
    whole = {id for id, step in steps.items() if step.directory(outputs).is_done()}
    done = [_scored(cell, whole) for cell in study.cells if whole.issuperset(_base(cell))]
    absent = [_cell_name(cell) for cell in study.cells if not whole.issuperset(_base(cell))]
    absent += [
        f"{_cell_name(cell)}: {metric}"
        for cell in study.cells
        if whole.issuperset(_base(cell))
        for metric, step in cell["scores"].items()
        if step not in whole
    ]
    config = {
        "study": study.study,
        "cells": done,
        "missing": absent,
        "primary": study.primary,
        "metrics": study.metrics,
        "compare": study.compare,
        "ladder": study.ladder,
    }
    inputs = {id: steps[id] for cell in done for id in _parts(cell)}
    judges = list(dict.fromkeys(cell["judge"] for cell in study.cells if "judge" in cell))
    if judges:
        config["judges"] = [id for id in judges if id in whole]
        config["unjudged"] = [id for id in judges if id not in whole]
        inputs |= {id: steps[id] for id in config["judges"]}
    compare = make_step("compare", study.study, config, inputs)
    return compare, make_step("report", study.study, {"study": study.study}, {"compare": compare, **inputs})
