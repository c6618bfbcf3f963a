"""``persllm plan``: what would run, why, and for how long. Touches nothing on disk."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persllm import verbs

if TYPE_CHECKING:
    from rich.console import Console

    from persllm.nodes import Step
    from persllm.plan import Plan
    from persllm.sizing import Memory

EXAMPLES = """  persllm plan                                  the quickstart study
  persllm plan method=prompt_rag,persllm seed='range(0,3)'
  persllm plan pairs.rank=8                     what a change would re-run
  persllm plan strategy=zero2 strategy.memory_gib=80    what would fit
  persllm plan --scaling                        ZeRO on 8 to 1,024 GPUs
  persllm plan --json | head                    every step, for programs"""

ORDER = ("to run", "failed", "running", "cached")
_WORDS = {"done": "cached", "absent": "to run", "stale": "to run", "failed": "failed", "running": "running"}
_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """One step of the plan, as shown."""

    step: Step
    state: str
    why: str
    seconds: float | None
    """Expected; None where no such step has finished here, 0 where it is cached."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)
    verbs.script_flag(parser)
    parser.add_argument(
        "--scaling", action="store_true", help="print what ZeRO holds and sends at 1B to 70B on 8 to 1,024 GPUs instead"
    )


def rows(plan: Plan, outputs: Path) -> list[Row]:
    """Return every step of a study with its state, compare and report included."""
    from persllm.expected import Times
    from persllm.explain import explain
    from persllm.finish import finish, record

    times = Times(outputs)

    def row(step: Step, waits: str = "") -> Row:
        why = waits or explain(step, outputs)
        state = "to run" if waits else _WORDS[step.directory(outputs).state()]
        seconds = 0.0 if state == "cached" else times.expected(step.name, step.config, step.local)
        return Row(step, state, why, seconds)

    found = [row(step) for step in plan.steps]
    compare, report = finish(record(plan), outputs)
    left = len(compare.config["missing"])
    waits = f"waits for {left} of {len(plan.cells)} cells" if left else ""
    if not waits and compare.config.get("unjudged"):
        waits = "waits for the judge"
    found.append(row(compare, waits))
    if not waits and found[-1].state != "cached":
        waits = "waits for compare"
    return [*found, row(report, waits)]


def main(args: argparse.Namespace) -> int:
    """Print the plan."""
    if args.scaling:
        from persllm.training.scaling_table import table

        print("\n".join(table()))
        return 0
    plan, outputs = verbs.load(args.overrides)
    if args.show_script:
        return verbs.print_scripts(plan, outputs)
    found, memory = rows(plan, outputs), _memory(plan)
    folder = outputs / "studies" / plan.name
    if args.json:
        verbs.print_json(_as_json(plan, found, memory, folder))
        return 0
    console = verbs.console()
    (_table if len(found) <= verbs.MANY else _summary)(console, found)
    console.print()
    _totals(console, plan, found, memory)
    console.print(f"study folder: {folder}", soft_wrap=True)
    if any(row.state != "cached" for row in found):
        console.print(f"to run it: {verbs.command(verbs.goes_on(plan), args.overrides)}", soft_wrap=True)
    return 0


def _memory(plan: Plan) -> list[Memory]:
    from persllm.sizing import memories

    return memories([(c.cell.config.method.name, step) for c in plan.cells for step in c.train], plan.resolved.config)


def _cost(row: Row) -> str:
    return "-" if row.state == "cached" else "?" if row.seconds is None else verbs.duration(row.seconds)


def _table(console: Console, found: list[Row]) -> None:
    label = verbs.names([row.step for row in found])
    # A long label folds sooner than the reason beside it loses its words.
    word = max((len(word) for row in found for word in row.why.split()), default=0)
    widths = {"label": min(verbs.width_of(label), max(12, console.width - 31 - word))}
    headers = ("step", "label", "state", "time", "why")
    table = verbs.table(headers, right=("time",), fixed=("step", "state"), widths=widths)
    table.columns[1].max_width = widths["label"]
    for row in found:
        table.add_row(row.step.name, label[row.step.id], row.state, _cost(row), "" if row.why == "cached" else row.why)
    console.print(table)


def _summary(console: Console, found: list[Row]) -> None:
    label = verbs.names([row.step for row in found])
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row.step.name, row.state), []).append(row)
    headers = ("step", "state", "count", "time", "first of them")
    table = verbs.table(headers, right=("count", "time"), fixed=("step", "state"))
    for (name, state), group in groups.items():
        known = [row.seconds for row in group if row.seconds is not None]
        time = "-" if state == "cached" else verbs.duration(sum(known)) if known else "?"
        first = [label[row.step.id] + ("" if state == "cached" else f" ({row.why})") for row in group[:_SHOWN]]
        first += [f"and {len(group) - _SHOWN} more"] if len(group) > _SHOWN else []
        table.add_row(name, state, str(len(group)), time, "\n".join(first))
    console.print(table)
    console.print("every step with its reason: --json")


def _totals(console: Console, plan: Plan, found: list[Row], memory: list[Memory]) -> None:
    from persllm.forecast import device_hours, memory_lines
    from persllm.power import power_line

    ahead = [row for row in found if row.state != "cached"]
    known = [row.seconds for row in ahead if row.seconds is not None]
    console.print(
        f"{plan.resolved.study.name}: {verbs.many(len(plan.cells), 'cell')}, {len(found)} steps: "
        f"{verbs.counted((row.state for row in found), ORDER)}"
    )
    if ahead:
        told = f"{verbs.duration(sum(known))} for {verbs.many(len(known), 'step')}"
        unknown = f"unknown for {len(ahead) - len(known)} (none like them has finished here yet)"
        parts = [told] * bool(known) + [unknown] * (len(known) < len(ahead))
        console.print(f"expected time: {'; '.join(parts)}")
        hours, ranks = device_hours((row.step, row.seconds) for row in ahead)
        if ranks > 1 and known:
            console.print(f"device-hours: {hours:.2g}, as training holds {ranks} devices and other steps one")
    for line in memory_lines(memory):
        console.print(line)
    console.print(power_line(plan))
    for note in plan.resolved.notes:
        console.print(f"note: {note}")


def _as_json(plan: Plan, found: list[Row], memory: list[Memory], folder: Path) -> dict[str, Any]:
    from persllm.forecast import device_hours
    from persllm.power import power_line

    return {
        "study": plan.resolved.study.name,
        "fingerprint": plan.fingerprint,
        "folder": str(folder),
        "notes": plan.resolved.notes,
        "cells": [
            {"arm": c.cell.arm, "persona": c.cell.persona, "seed": c.cell.seed, "evaluate": c.evaluate.id}
            for c in plan.cells
        ],
        "memory": [one.as_json() for one in memory],
        "power": power_line(plan),
        "device_hours": device_hours((row.step, row.seconds) for row in found)[0],
        "steps": [
            {
                "id": row.step.id,
                "step": row.step.name,
                "label": row.step.label,
                "fingerprint": row.step.fingerprint,
                "state": row.state,
                "why": row.why,
                "expected_seconds": row.seconds,
                "inputs": {role: step.id for role, step in row.step.inputs.items()},
                "config": row.step.config,
            }
            for row in found
        ],
    }
