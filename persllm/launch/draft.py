"""A submission before it is sent: which steps, in which arrays, and what of an earlier one they replace."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persllm.errors import UserError
from persllm.finish import StudyRecord, finish, record
from persllm.launch import slurm
from persllm.launch.arrays import Array, arrays
from persllm.launch.queue import Answers
from persllm.launch.submission import Place, begin, ending_of, next_folder, note
from persllm.nodes import Step
from persllm.plan import Plan
from persllm.schema import Launch, Strategy
from persllm.store import require_writable

LONGEST = 1001
"""Slurm's own default of MaxArraySize, where nobody asked the cluster."""


@dataclass(frozen=True)
class Draft:
    """What would be sent."""

    study: StudyRecord
    launch: Launch
    strategy: Strategy
    folder: Path
    """Where it will be recorded; absolute."""
    steps: list[Step]
    arrays: list[Array]
    """Empty where there is nothing to send."""
    running: int
    """Steps left out because a living process runs them."""
    queued: int
    """Steps left out because an earlier submission has them in the queue."""
    left_out: int
    """Steps left out because they need one that a process outside of Slurm runs, for which no job can wait."""
    replaced: list[Place]
    """Pending elements that need a step sent now: taken back, and sent again behind it."""

    def scripts(self) -> list[tuple[str, str]]:
        """Return each array's name and batch script."""
        parts = (self.study.study, self.launch, self.strategy, self.folder)
        return [(array.name, slurm.script(array, *parts)) for array in self.arrays]


def draft(
    plan: Plan,
    outputs: Path,
    places: dict[str, Place],
    answers: Answers,
    only: Collection[str] | None = None,
    longest: int = LONGEST,
) -> Draft:
    """Choose what to send of a study: every step that is not done, nor running, nor in the queue.

    What needs a step that runs outside of Slurm is left out.

    Args:
        plan: the study.
        outputs: where step directories live.
        places: where steps were sent before, from ``submission.places``.
        answers: what Slurm says of those.
        only: ids of steps to choose from; None takes all.
        longest: how many elements Slurm allows in one array.
    """
    study, config = record(plan), plan.resolved.config
    ending = ending_of(study.folder)
    live = {id: place for id, place in places.items() if (s := answers.seen.get(place.element)) and s.live}
    pending = {id for id, place in live.items() if answers.seen[place.element].state == "PENDING"}
    chosen = _choose(plan, outputs, live, pending, only)
    if chosen.sending and ending in pending:
        chosen.replaced[live[ending].element] = live[ending]
    made: list[Array] = []
    order = [step for step in plan.steps if step.id in chosen.sending]
    if order or (ending not in live and _open(study, outputs, bool(chosen.queued))):
        made = arrays(order, ending, chosen.queued, longest, chosen.behind)
    return Draft(
        study=study,
        launch=config.launch,
        strategy=config.strategy,
        folder=next_folder(outputs, plan.name),
        steps=order,
        arrays=made,
        running=chosen.running,
        queued=sum(id in pending for id in chosen.queued),
        left_out=len(chosen.left_out),
        replaced=list(chosen.replaced.values()),
    )


@dataclass
class _Choice:
    """What becomes of each step that is not done."""

    sending: set[str] = field(default_factory=set)
    behind: dict[str, str] = field(default_factory=dict)
    """The job that failed a step and still lives, for each step sent again."""
    queued: dict[str, str] = field(default_factory=dict)
    """The job, for each step that one has."""
    replaced: dict[str, Place] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    """Run by a process outside of Slurm."""
    left_out: set[str] = field(default_factory=set)
    running: int = 0


def _choose(
    plan: Plan, outputs: Path, live: dict[str, Place], pending: set[str], only: Collection[str] | None
) -> _Choice:
    made = _Choice()
    for step in plan.steps:
        directory, place = step.directory(outputs), live.get(step.id)
        state = directory.state()
        if state == "done":
            continue
        needs = {s.id for s in step.inputs.values()}
        again = not needs.isdisjoint(made.sending)
        if state == "running":
            made.running += 1
            if place is None:
                made.outside.add(step.id)
            else:
                made.queued[step.id] = place.job
        elif place is not None and step.id not in pending:
            # An element goes on after one of its steps failed, and comes back neither to it nor to what needs it.
            if again or place.failed(directory):
                made.sending.add(step.id)
                made.behind[step.id] = place.job
            else:
                made.running += 1
                made.queued[step.id] = place.job
        elif place is not None and not again:
            made.queued[step.id] = place.job
        elif place is not None:
            made.replaced[place.element] = place
            made.sending.add(step.id)
        elif only is None or step.id in only:
            stuck = not needs.isdisjoint(made.outside | made.left_out)
            (made.left_out if stuck else made.sending).add(step.id)
    for id in [id for id in made.queued if live[id].element in made.replaced]:
        # It shares an element with a step that is sent again.
        del made.queued[id]
        made.sending.add(id)
    return made


def _open(study: StudyRecord, outputs: Path, queued: bool) -> bool:
    """Return whether compare and report are all that is left to send."""
    compare, report = finish(study, outputs)
    return queued or (not compare.config["missing"] and not report.directory(outputs).is_done())


def submit(made: Draft, outputs: Path) -> dict[str, str]:
    """Freeze a draft's steps into their directories, record it, and send it.

    Returns:
        The job id of each array.

    Raises:
        UserError: outputs cannot be written, or Slurm refuses.
    """
    require_writable(outputs)
    for step in made.steps:
        step.directory(outputs).freeze(step.meaning(), step.input_record())
    try:
        begin(made.folder, made.study, _plain(made.launch), made.scripts())
    except FileExistsError as error:
        raise UserError(
            f"{made.folder}: another submission of this study began just now; run the command again"
        ) from error
    note(made.folder, made.arrays, {})
    if made.replaced:
        slurm.ask("scancel", *(place.element for place in made.replaced))
    return slurm.send(made.arrays, made.folder, lambda jobs: note(made.folder, made.arrays, jobs))


def _plain(launch: Launch) -> dict[str, Any]:
    return dataclasses.asdict(launch) | {"kind": launch.kind.value}


def scripts(plan: Plan, outputs: Path) -> list[tuple[str, str]]:
    """Return the name and text of each batch script that a study would be sent as, without asking Slurm anything.

    Raises:
        UserError: the study's launch is not Slurm.
    """
    slurm.require_kind(plan.resolved.config.launch)
    return draft(plan, outputs, {}, Answers({})).scripts()
