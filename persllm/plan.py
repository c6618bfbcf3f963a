"""The DAG of a study: which steps, from which inputs, and why each would run. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from persllm import packs, plan_judge, plan_scores
from persllm.compose import Cell, Resolved, slug
from persllm.errors import UserError
from persllm.identity import fingerprint
from persllm.nodes import Step, plain
from persllm.schema import AnnotatorKind
from persllm.step_builder import StepBuilder


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the steps that make it."""

    cell: Cell
    train: tuple[Step, ...]
    """SFT, then DPO (one step per stage where they are tuned apart); empty for a prompted arm."""
    generate: Step
    evaluate: Step
    scores: tuple[Step, ...] = ()
    """One for each metric that examines the arm by more than its held-out items."""
    judge: Step | None = None
    """What reads all arms of this persona and seed; None where nobody judges."""


@dataclass(frozen=True)
class Plan:
    """A study's steps in an order in which each comes after its inputs."""

    resolved: Resolved
    cells: list[PlannedCell]
    steps: list[Step]
    """Everything up to evaluate; ``compare`` and ``report`` follow from what succeeded (see ``persllm.finish``)."""
    fingerprint: str

    @property
    def name(self) -> str:
        """The study's folder under outputs/studies/."""
        return f"{slug(self.resolved.study.name)}-{self.fingerprint[:8]}"


def _ordered(cells: list[PlannedCell]) -> list[Step]:
    seen: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.id not in seen:
            for needed in step.inputs.values():
                visit(needed)
            seen[step.id] = step

    for planned in cells:
        for step in (planned.evaluate, *planned.scores, *([planned.judge] if planned.judge else [])):
            visit(step)
    return list(seen.values())


def annotate_steps(resolved: Resolved) -> list[Step]:
    """Return the steps that make the items of a study's personas."""
    builder = StepBuilder(resolved)
    for cell in resolved.cells:
        builder.annotate(cell.config, cell.config.persona.pack)
    _require_effect(resolved, builder)
    return [step for step in builder.steps.values() if step.name == "annotate"]


def _require_effect(resolved: Resolved, builder: StepBuilder) -> None:
    """Say which personas keep the items that they ship; refuse an annotator that would write none at all."""
    chosen = resolved.config.annotate.annotator.value
    kept = [pack for pack in builder.personas if any(packs.folder(pack).glob("*/items.jsonl"))]
    if chosen == AnnotatorKind.recorded.value or not kept:
        return
    names = ", ".join(packs.folder(pack).name for pack in kept)
    if len(kept) == len(builder.personas):
        raise UserError(
            f"annotate={chosen}: {names} ships items already, and they are kept; to have them written anew, copy the "
            "folder without items.jsonl and reanswers.jsonl and name the copy"
        )
    resolved.notes.append(f"{names} ships items, which are kept; annotate={chosen} writes those of the others")


def build(resolved: Resolved) -> Plan:
    """Expand a study into its steps. Reads the persona packs (and so finds what is wrong with them); writes nothing."""
    builder = StepBuilder(resolved)
    made = []
    for cell in resolved.cells:
        builder.require_embedders(cell.config)
        train = builder.train(cell.config, cell.persona)
        made.append(plan_scores.Made(cell, train, builder.generate(cell.config, cell.persona, train)))
    cells = []
    for one, judge in zip(made, plan_judge.judges(builder, made), strict=True):
        evaluate = builder.evaluate(one.cell.config, one.cell.persona, one.generate)
        scores = plan_scores.scores(builder, one, made)
        cells.append(PlannedCell(one.cell, one.train, one.generate, evaluate, scores, judge))
    _require_effect(resolved, builder)
    ends = [[c.evaluate.fingerprint, *(step.fingerprint for step in c.scores)] for c in cells]
    for end, cell in zip(ends, cells, strict=True):
        end += [cell.judge.fingerprint] if cell.judge else []
    meaning = [[c.cell.arm, c.cell.persona, c.cell.seed, *end] for c, end in zip(cells, ends, strict=True)]
    study = resolved.study
    config = {"cells": meaning, "baseline": study.baseline, "primary": study.primary}
    config["compare"] = plain(resolved.config.compare)
    return Plan(resolved, cells, _ordered(cells), fingerprint("study", 1, config, {}))
