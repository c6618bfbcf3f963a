"""``persllm retry``: run the failed steps and what waited for them, nothing else."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from persllm import verbs

if TYPE_CHECKING:
    from persllm.execute import Outcome, Tell
    from persllm.nodes import Step
    from persllm.plan import Plan
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
    "rank_killed": "a rank was killed",
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


def smaller(micro: int, share: int) -> int | None:
    """Return the largest divisor of a rank's share of the batch that is at most half of a micro-batch, or None.

    Args:
        micro: units in the micro-batch that did not fit.
        share: units of each batch that a rank works through.
    """
    return max((n for n in range(1, micro // 2 + 1) if share % n == 0), default=None)


def _with_less_memory(step: Step, outputs: Path) -> tuple[Step, str]:
    """Return a train step with half the micro-batch that its last attempt really had, and what to say of it."""
    from persllm.geometry import cut
    from persllm.store import read_json

    objective, batch = step.config["objective"], step.config["optim"]["batch_size"]
    frozen = (read_json(step.directory(outputs).path / "config.json") or {}).get("local", {}).get("strategy")
    # What was set may be more than a rank has to do, and of a DPO pair's two sequences none goes alone.
    used = cut(frozen or step.local["strategy"], batch, objective).micro
    now = cut(step.local["strategy"], batch, objective)
    after = smaller(used, now.micro * now.accumulation)
    sequences = 2 if objective == "dpo" else 1
    if after is None:
        return step, f"not halved: one {'pair' if sequences == 2 else 'sequence'} per rank already"
    local = step.local | {"strategy": step.local["strategy"] | {"micro_batch": after * sequences}}
    told = f"{MICRO_BATCH} {used * sequences} -> {after * sequences}"
    return dataclasses.replace(step, local=local), told


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
        return submit.prepare_and_send(args, plan, outputs, {step.id for step in steps})
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
