"""``persllm status``: where each step of a study stands, from the markers in its directory and, if sent, from Slurm."""

from __future__ import annotations

import argparse
import collections
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persllm import verbs

if TYPE_CHECKING:
    from persllm.launch.queue import Seen
    from persllm.launch.submission import Place
    from persllm.nodes import Step
    from persllm.plan import Plan
    from persllm.store import StepDir

EXAMPLES = """  persllm status
  persllm status method=prompt_rag,persllm --json"""

ORDER = ("done", "running", "interrupted", "failed", "to run")
SLURM_ORDER = ("queued", "requeued", "cancelled", "timeout", "out_of_memory", "node_fail", "preempted")
"""States that only a submission brings about."""
_WORDS = {"done": "done", "running": "running", "stale": "interrupted", "failed": "failed", "absent": "to run"}


@dataclass(frozen=True)
class Row:
    """One step and where it stands."""

    step: Step
    state: str
    told: str
    detail: dict[str, Any]
    """The lease of a running step, what went wrong, and Slurm's id of the job where there is one."""


@dataclass(frozen=True)
class Standing:
    """A study's steps and where they stand."""

    rows: list[Row]
    """Every step, compare and report included."""
    note: str = ""
    """What Slurm did not tell, and why."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)


def look(plan: Plan, outputs: Path) -> Standing:
    """Find out where every step of a study stands; asks Slurm where steps were sent to it."""
    from persllm.finish import finish, record
    from persllm.launch.queue import Answers, ask_queue
    from persllm.launch.submission import ending_of, places

    ending = ending_of(plan.name)
    sent = places(outputs, [*(step.id for step in plan.steps), ending])
    open_places = [place for id, place in sent.items() if id == ending or not (outputs / id / "DONE").exists()]
    answers = ask_queue(open_places) if open_places else Answers({})

    def row(step: Step, id: str) -> Row:
        place = sent.get(id)
        return _row(step, outputs, place, answers.seen.get(place.element) if place else None)

    found = [row(step, step.id) for step in plan.steps]
    compare, report = finish(record(plan), outputs)
    left = len(compare.config["missing"])
    waits = f"waits for {left} of {len(plan.cells)} cells" if left else ""
    for step in (compare, report):
        told = row(step, ending)
        if waits:
            told = Row(step, told.state if told.state == "queued" else "to run", waits, {})
        found.append(told)
    return Standing(found, answers.silent)


def _row(step: Step, outputs: Path, place: Place | None, seen: Seen | None) -> Row:
    directory = step.directory(outputs)
    state = _WORDS[directory.state()]
    lease = directory.owner() or {}
    job, sent = "", {}
    if place is not None and seen is not None and state != "done":
        from persllm.launch.queue import standing

        word, job = standing(place, seen)
        sent = {"job": place.element}
        # An element may go on with other steps after one has failed; pending, it will come back to that one.
        failed = state == "failed" and seen.state != "PENDING" and place.failed(directory)
        if seen.live and state != "running" and not failed:
            again = state == "interrupted" or any(cut["time"] >= place.since for cut in directory.interruptions())
            return Row(step, "requeued" if again and word == "queued" else word, _and(job, _cuts(directory)), sent)
        if not seen.live and state in ("to run", "interrupted") and word != "to run":
            return Row(step, word, job, {"class": word, "message": job, **sent})
        job = job if seen.live or state == "to run" else ""
    if state == "to run" and not sent and directory.interruptions():
        # It gave its lease back when it was stopped; what it saved is there.
        return Row(step, "interrupted", _and("goes on from where it was", _cuts(directory)), {})
    if state in ("running", "interrupted"):
        told = f"{lease.get('host')} pid {lease.get('pid')}, last sign of life {_ago(lease)} ago"
        return Row(step, state, _and(job, told, _cuts(directory)), {"lease": lease, **sent})
    if state == "failed":
        failure = directory.failure() or {}
        told = f"{failure.get('class')}: {failure.get('message')} ({failure.get('hint')})"
        return Row(step, state, told, {**failure, **sent})
    return Row(step, state, job, sent)


def _and(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _cuts(directory: StepDir) -> str:
    """Say how often the step went on after it was cut short, and what cut it."""
    reasons = collections.Counter(cut["reason"] for cut in directory.interruptions())
    count = max(sum(reasons.values()), (directory.owner() or {}).get("restarts", 0))
    told = ", ".join(f"{reason} x{times}" for reason, times in reasons.items())
    return (verbs.many(count, "restart") + (f" ({told})" if told else "")) if count else ""


def _ago(lease: dict[str, Any]) -> str:
    return verbs.duration(max(0.0, time.time() - float(lease.get("beat", 0))))


def main(args: argparse.Namespace) -> int:
    """Print the states."""
    plan, outputs = verbs.load(args.overrides)
    standing = look(plan, outputs)
    found = standing.rows
    counts = {state: sum(row.state == state for row in found) for state in (*ORDER, *SLURM_ORDER)}
    if args.json:
        verbs.print_json(
            {
                "study": plan.resolved.study.name,
                "counts": {state: count for state, count in counts.items() if count or state in ORDER},
                "note": standing.note,
                "steps": [{"id": row.step.id, "state": row.state, **row.detail} for row in found],
            }
        )
        return 0
    _show(plan, found)
    console = verbs.console()
    if standing.note:
        console.print(f"note: {standing.note}", soft_wrap=True)
    for line in _next(args, plan, {state for state, count in counts.items() if count}):
        console.print(line, soft_wrap=True)
    return 0


def _show(plan: Plan, found: list[Row]) -> None:
    console = verbs.console()
    label = verbs.names([row.step for row in found])
    usual = ("done", "to run", "queued")
    listed = found if len(found) <= verbs.MANY else [row for row in found if row.state not in usual][: verbs.MANY]
    widths = {"label": verbs.width_of(label)}
    table = verbs.table(("step", "label", "state", ""), fixed=("step", "state"), widths=widths)
    for row in listed:
        table.add_row(row.step.name, label[row.step.id], row.state, row.told)
    if listed:
        console.print(table)
        console.print()
    counted = verbs.counted((row.state for row in found), (*ORDER, *SLURM_ORDER))
    console.print(f"{plan.resolved.study.name}: {len(found)} steps: {counted}")
    if len(listed) < len(found):
        console.print(f"not listed: {verbs.many(len(found) - len(listed), 'step')}; --json has them")


def _next(args: argparse.Namespace, plan: Plan, states: set[str]) -> list[str]:
    from persllm.launch.queue import ENDED

    if states & {"failed", *ENDED}:
        return [f"to try the failed ones again: {verbs.command('retry', args.overrides)}"]
    if states & {"interrupted", "to run"} and not states & {"queued", "requeued"}:
        return [f"to go on: {verbs.command(verbs.goes_on(plan), args.overrides)}"]
    return []
