"""``persllm status``: where each step of a study stands, from the markers in its directory."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persllm import verbs

if TYPE_CHECKING:
    from persllm.plan import Plan, Step

EXAMPLES = """  persllm status
  persllm status method=prompt_rag,persllm --json"""

ORDER = ("done", "running", "interrupted", "failed", "to run")
_WORDS = {"done": "done", "running": "running", "stale": "interrupted", "failed": "failed", "absent": "to run"}


@dataclass(frozen=True)
class Row:
    """One step and where it stands."""

    step: Step
    state: str
    told: str
    detail: dict[str, Any]
    """The lease of a running step, or what went wrong."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)


def rows(plan: Plan, outputs: Path) -> list[Row]:
    """Return every step of a study with its state, compare and report included."""
    from persllm.plan import finish

    compare, report = finish(plan, outputs)
    found = [_row(step, outputs) for step in plan.steps]
    left = len(compare.config["missing"])
    waits = f"waits for {left} of {len(plan.cells)} cells" if left else ""
    for step in (compare, report):
        found.append(Row(step, "to run", waits, {}) if waits else _row(step, outputs))
    return found


def _row(step: Step, outputs: Path) -> Row:
    directory = step.directory(outputs)
    state = _WORDS[directory.state()]
    if state in ("running", "interrupted"):
        lease = directory.owner() or {}
        told = f"{lease.get('host')} pid {lease.get('pid')}, last sign of life {_ago(lease)} ago"
        if lease.get("restarts"):
            told += f", {verbs.many(lease['restarts'], 'restart')}"
        return Row(step, state, told, {"lease": lease})
    if state == "failed":
        failure = directory.failure() or {}
        return Row(step, state, f"{failure.get('class')}: {failure.get('message')} ({failure.get('hint')})", failure)
    return Row(step, state, "", {})


def _ago(lease: dict[str, Any]) -> str:
    return verbs.duration(max(0.0, time.time() - float(lease.get("beat", 0))))


def main(args: argparse.Namespace) -> int:
    """Print the states."""
    plan, outputs = verbs.load(args.overrides)
    found = rows(plan, outputs)
    if args.json:
        verbs.print_json(
            {
                "study": plan.resolved.study.name,
                "counts": {state: sum(row.state == state for row in found) for state in ORDER},
                "steps": [{"id": row.step.id, "state": row.state, **row.detail} for row in found],
            }
        )
        return 0
    console = verbs.console()
    label = verbs.names([row.step for row in found])
    listed = found if len(found) <= verbs.MANY else [row for row in found if row.state not in ("done", "to run")]
    widths = {"label": verbs.width_of(label)}
    table = verbs.table(("step", "label", "state", ""), fixed=("step", "state"), widths=widths)
    for row in listed:
        table.add_row(row.step.name, label[row.step.id], row.state, row.told)
    if listed:
        console.print(table)
        console.print()
    counts = verbs.counted((row.state for row in found), ORDER)
    console.print(f"{plan.resolved.study.name}: {len(found)} steps: {counts}")
    if len(listed) < len(found):
        console.print(f"not listed: {verbs.many(len(found) - len(listed), 'step')} done or to run; --json has them")
    states = {row.state for row in found}
    if "failed" in states:
        console.print(f"to try the failed ones again: {verbs.command('retry', args.overrides)}", soft_wrap=True)
    elif states & {"interrupted", "to run"}:
        console.print(f"to go on: {verbs.command('run', args.overrides)}", soft_wrap=True)
    return 0
