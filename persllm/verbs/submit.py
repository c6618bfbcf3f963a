"""``persllm submit``: send a study's steps to Slurm and return; nothing of ours stays behind."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from persllm import verbs
from persllm.errors import UserError

if TYPE_CHECKING:
    from persllm.launch.draft import Draft
    from persllm.plan import Plan

EXAMPLES = """  persllm submit launch=slurm launch.partition=gpu launch.account=mine
  persllm submit launch=slurm strategy=zero2 strategy.devices=4 strategy.nodes=2
  persllm submit launch=slurm --show-script     what would be sent"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)
    verbs.script_flag(parser)


def prepare(plan: Plan, outputs: Path, only: Collection[str] | None = None) -> Draft:
    """Return what there is to send, knowing what is in the queue already.

    Args:
        plan: the study.
        outputs: where step directories live.
        only: ids of steps to choose from; None takes all.

    Raises:
        UserError: Slurm does not answer.
    """
    from persllm.launch import slurm
    from persllm.launch.draft import draft
    from persllm.launch.queue import ask_queue
    from persllm.launch.submission import ending_of, places

    sent = places(outputs, [*(step.id for step in plan.steps), ending_of(plan.name)])
    answers = ask_queue(sent.values(), ended=False)
    if answers.silent:
        raise UserError(f"{answers.silent}, and steps might be sent twice; try again later")
    return draft(plan, outputs, sent, answers, only, slurm.longest_array())


def prepare_and_send(args: argparse.Namespace, plan: Plan, outputs: Path, only: Collection[str] | None = None) -> int:
    """Send what there is to send, while nobody else does; return the exit code.

    Raises:
        UserError: Slurm is not there or lacks a partition that launch names, another submit is under way, or as
            ``prepare`` and ``send`` raise it.
    """
    from persllm.launch import slurm
    from persllm.launch.submission import alone

    slurm.require(plan.resolved.config.launch)
    with alone(outputs):
        return send(args, plan, outputs, prepare(plan, outputs, only))


def send(args: argparse.Namespace, plan: Plan, outputs: Path, made: Draft) -> int:
    """Send a draft, and say what was sent and what to do next; return the exit code."""
    from persllm.launch.draft import submit

    elsewhere = [f"{made.running} running"] * bool(made.running) + [f"{made.queued} in the queue"] * bool(made.queued)
    done = sum(step.directory(outputs).is_done() for step in plan.steps)
    if not made.arrays:
        left = verbs.many(made.running + made.queued, "step")
        told = f"{left} of {made.study.study}: {', '.join(elsewhere)}" if elsewhere else f"{made.study.study} is done"
        if args.json:
            verbs.print_json({"folder": None, "arrays": []} | _counts(made))
        else:
            verbs.console().print(f"nothing to submit: {told}")
            _tell_left_out(made)
        return 0
    jobs = submit(made, outputs)
    if args.json:
        verbs.print_json(_as_json(made, jobs))
        return 0
    console = verbs.console()
    table = verbs.table(("array", "elements", "job", "after"), right=("elements",), fixed=("array", "job"))
    for array in made.arrays:
        waits = [*array.after, *(f"job {job}" for job in array.behind)]
        if array is made.arrays[-1] and len(waits) > 1:
            waits = ["all of them"]
        table.add_row(array.name, str(len(array.elements)), jobs[array.name], ", ".join(waits) or "-")
    console.print(table)
    console.print()
    told = ", ".join([f"{done} done"] * bool(done) + elsewhere)
    console.print(f"{made.study.study}: {verbs.many(len(made.steps), 'step')} sent" + (f"; {told}" if told else ""))
    _tell_left_out(made)
    if made.replaced:
        waiting = verbs.many(len(made.replaced), "pending job")
        console.print(f"{waiting} of an earlier submission taken back and sent again behind what they need")
    console.print(f"scripts and logs: {made.folder}", soft_wrap=True)
    console.print(f"where they stand: {verbs.command('status', args.overrides)}", soft_wrap=True)
    console.print(f"to try failed ones again: {verbs.command('retry', args.overrides)}", soft_wrap=True)
    return 0


def _tell_left_out(made: Draft) -> None:
    if made.left_out:
        steps = verbs.many(made.left_out, "step")
        why = "no job can wait for what a process outside of Slurm is running; submit again when it has ended"
        verbs.console().print(f"{steps} left out: {why}", soft_wrap=True)


def _counts(made: Draft) -> dict[str, int]:
    return {"running": made.running, "queued": made.queued, "left_out": made.left_out}


def _as_json(made: Draft, jobs: dict[str, str]) -> dict[str, object]:
    arrays = [
        {
            "name": array.name,
            "job": jobs[array.name],
            "after": array.after,
            "behind": array.behind,
            "elements": array.elements,
        }
        for array in made.arrays
    ]
    replaced = [place.element for place in made.replaced]
    return {"folder": str(made.folder), "arrays": arrays, "replaced": replaced, **_counts(made)}


def main(args: argparse.Namespace) -> int:
    """Send every step that is not done, running or queued."""
    plan, outputs = verbs.load(args.overrides)
    if args.show_script:
        return verbs.print_scripts(plan, outputs)
    return prepare_and_send(args, plan, outputs)
