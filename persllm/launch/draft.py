"""A submission before it is sent: which steps, in which arrays, and what of an earlier one they replace."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm.errors import UserError
from persllm.finish import StudyRecord, finish, record
from persllm.launch import slurm
from persllm.launch.arrays import Array, arrays
from persllm.launch.queue import Answers
from persllm.launch.submission import Place, begin, ending_of, next_folder, note
from persllm.plan import Plan, Step
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
    sending: dict[str, Step] = {}
    queued: dict[str, str] = {}
    replaced: dict[str, Place] = {}
    running = 0
    for step in plan.steps:
        state = step.directory(outputs).state()
        if state == "done":
            continue
        if state == "running" or (step.id in live and step.id not in pending):
            running += 1
            if step.id in live:
                queued[step.id] = live[step.id].job
        elif step.id in pending and not any(s.id in sending for s in step.inputs.values()):
            queued[step.id] = live[step.id].job
        elif step.id in pending:
            replaced[live[step.id].element] = live[step.id]
            sending[step.id] = step
        elif only is None or step.id in only:
            sending[step.id] = step
    for id in [id for id in queued if live[id].element in replaced]:
        # It shares an element with a step that is sent again.
        del queued[id]
        sending[id] = next(step for step in plan.steps if step.id == id)
    if sending and ending in pending:
        replaced[live[ending].element] = live[ending]
    made: list[Array] = []
    if sending or (ending not in live and _open(study, outputs, bool(queued))):
        order = [step for step in plan.steps if step.id in sending]
        made = arrays(order, ending, queued, longest)
    return Draft(
        study=study,
        launch=config.launch,
        strategy=config.strategy,
        folder=next_folder(outputs, plan.name),
        steps=[step for step in plan.steps if step.id in sending],
        arrays=made,
        running=running,
        queued=sum(id in pending for id in queued),
        replaced=list(replaced.values()),
    )


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
