"""``persllm retry``: run the failed steps and what waited for them, nothing else."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from persllm import verbs

if TYPE_CHECKING:
    from persllm.execute import Outcome, Tell
    from persllm.plan import Plan, Step
    from persllm.verbs.status import Row

EXAMPLES = """  persllm retry
  persllm retry launch=slurm                    as jobs of the cluster
  persllm retry strategy.micro_batch=4          after running out of memory"""

MICRO_BATCH = "strategy.micro_batch"
_SHOWN = 10
_WORDS = {
    "code": "an error in the code",
    "config": "bad input",
    "out_of_memory": "out of memory",
    "disk_full": "the disk was full",
    "diverged": "training diverged",
    "timeout": "the time limit",
    "cancelled": "cancelled",
    "node_fail": "its node failed",
    "preempted": "preempted by other jobs",
    "failed": "its job ended without a reason",
}
"""Classes of failure, as people say them."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)


def failed_and_waiting(plan: Plan, outputs: Path, states: dict[str, str]) -> list[Step]:
    """Return the failed steps and those that need one of them and nothing else that is missing.

    Args:
        plan: the study.
        outputs: where step directories live.
        states: each step's, as ``status`` tells them; what Slurm ended counts as failed.
    """
    from persllm.launch.queue import ENDED

    chosen: dict[str, Step] = {}
    coming = ("queued", "requeued")
    for step in plan.steps:
        state = states[step.id]
        missing = [s for s in step.inputs.values() if s.id not in chosen and not s.directory(outputs).is_done()]
        needed = [s for s in missing if states[s.id] not in coming]
        waits = any(s.id in chosen for s in step.inputs.values())
        if not needed and (state in ("failed", *ENDED) or (waits and state != "done")):
            chosen[step.id] = step
    return list(chosen.values())


def smaller(micro_batch: int) -> int | None:
    """Return the largest proper divisor of a micro-batch, at most half of it, or None where it is 1.

    A divisor divides whatever share of the batch the micro-batch did.
    """
    return max((n for n in range(1, micro_batch // 2 + 1) if micro_batch % n == 0), default=None)


def _with_less_memory(step: Step, outputs: Path) -> tuple[Step, str]:
    """Return a train step with half the micro-batch of its last attempt, and what to say of it."""
    from persllm.store import read_json

    meaning = read_json(step.directory(outputs).path / "config.json") or {}
    strategy = meaning.get("local", {}).get("strategy", {})
    before = strategy.get("micro_batch")
    after = smaller(before) if before else None
    if after is None:
        return step, f"{MICRO_BATCH} is {before or 'null'} and is not halved; see persllm plan for what needs less"
    local = step.local | {"strategy": step.local["strategy"] | {"micro_batch": after}}
    return dataclasses.replace(step, local=local), f"{MICRO_BATCH} {before} -> {after}"


def adapt(args: argparse.Namespace, plan: Plan, outputs: Path, rows: list[Row]) -> tuple[Plan, list[str]]:
    """Give train steps that ran out of memory a smaller micro-batch, unless the user set one.

    Returns:
        The plan, and one line for each failed step: what went wrong, and what is changed.
    """
    from persllm.launch.queue import ENDED

    given = any(word.split("=", 1)[0] == MICRO_BATCH for word in args.overrides)
    steps = {step.id: step for step in plan.steps}
    lines = []
    for row in rows:
        if row.state not in ("failed", *ENDED):
            continue
        kind = row.detail.get("class", row.state)
        line = f"{row.step.name} {row.step.label}: {_WORDS.get(kind, kind)}"
        if kind == "out_of_memory" and row.step.name == "train" and not given:
            steps[row.step.id], told = _with_less_memory(row.step, outputs)
            line += f"; {told}"
        lines.append(line)
    return dataclasses.replace(plan, steps=list(steps.values())), lines


def main(args: argparse.Namespace) -> int:
    """Run what failed, then compare and report; with launch=slurm, send it."""
    from persllm.verbs import submit
    from persllm.verbs.status import look

    plan, outputs = verbs.load(args.overrides)
    standing = look(plan, outputs)
    plan, lines = adapt(args, plan, outputs, standing.rows)
    console = verbs.console(stderr=args.json)
    if not lines:
        console.print(f"nothing failed in {plan.resolved.study.name}")
        return 0
    if standing.note:
        console.print(f"note: {standing.note}", soft_wrap=True)
    for line in lines[:_SHOWN]:
        console.print(line, soft_wrap=True)
    if len(lines) > _SHOWN:
        console.print(f"and {len(lines) - _SHOWN} more")
    steps = failed_and_waiting(plan, outputs, {row.step.id: row.state for row in standing.rows})
    if plan.resolved.config.launch.kind.value == "slurm":
        return submit.send(args, plan, outputs, submit.prepare(plan, outputs, {step.id for step in steps}))
    return _here(args, plan, outputs, steps)


def _here(args: argparse.Namespace, plan: Plan, outputs: Path, steps: list[Step]) -> int:
    from persllm.execute import Outcome, conclude, run_steps
    from persllm.finish import record
    from persllm.verbs.run import close, drive

    def work(tell: Tell) -> Outcome:
        outcome, study = Outcome(), record(plan)
        run_steps(steps, outputs, study.track, tell, outcome)
        conclude(study, outputs, tell, outcome)
        return outcome

    return close(args, plan, outputs, drive(args, plan, outputs, steps, work))
