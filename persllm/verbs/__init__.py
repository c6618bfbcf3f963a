"""One module per verb, each with ``EXAMPLES``, ``arguments(parser)`` and ``main(args)``; here what they share."""

from __future__ import annotations

import argparse
import collections
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from persllm.nodes import Step
    from persllm.plan import Plan

MANY = 60
"""Above this many steps a list is summed up per step name and state."""


def json_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON, for programs")


def script_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--show-script``."""
    parser.add_argument(
        "--show-script", action="store_true", help="print the batch scripts for Slurm instead; sends nothing"
    )


def print_scripts(plan: Plan, outputs: Path) -> int:
    """Print the batch scripts that a study would be sent as; return the exit code."""
    from persllm.launch.draft import scripts

    for name, text in scripts(plan, outputs):
        print(f"##### {name}.sh\n{text}")
    return 0


def load(overrides: list[str]) -> tuple[Plan, Path]:
    """Return the plan that overrides describe, and its outputs folder.

    Raises:
        UserError: anything wrong in the overrides, in conf/ or in a persona pack.
    """
    from persllm import compose, plan

    resolved = compose.resolve(overrides)
    return plan.build(resolved), Path(resolved.config.outputs)


def goes_on(plan: Plan) -> str:
    """Return the verb that goes on with a study: ``submit`` where its steps run on a cluster."""
    return "submit" if plan.resolved.config.launch.kind.value == "slurm" else "run"


def command(verb: str, overrides: Iterable[str]) -> str:
    """Return the shell command that runs a verb with the same overrides."""
    return shlex.join(["persllm", verb, *overrides])


def console(stderr: bool = False) -> Console:
    """Return a console that prints text as it is: 80 columns and no colour where it is no terminal."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, stderr=stderr)


def table(
    headers: Sequence[str], right: Iterable[str] = (), fixed: Iterable[str] = (), widths: dict[str, int] | None = None
) -> Table:
    """Return an empty table that wraps long cells and never cuts them.

    Args:
        headers: the columns.
        right: columns of numbers, aligned to the right.
        fixed: columns of short words that are never wrapped.
        widths: the least width of a column, in characters.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        made.add_column(
            header,
            justify="right" if header in right else "left",
            no_wrap=header in fixed or header in right,
            overflow="fold",
            min_width=(widths or {}).get(header),
        )
    return made


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``0.4s``, ``52s``, ``1m12s``, ``2h05m``."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def many(count: int, noun: str) -> str:
    """Return ``1 step`` or ``2 steps``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def names(steps: Sequence[Step]) -> dict[str, str]:
    """Return each step's label by id; with its hash where two steps of one name share the label."""
    shared = collections.Counter((step.name, step.label) for step in steps)
    return {step.id: step.label if shared[step.name, step.label] == 1 else step.id.split("/")[1] for step in steps}


def width_of(label: dict[str, str]) -> int:
    """Return how wide a column of labels should be at least: the longest one, but half a narrow terminal at most."""
    return min(36, max(map(len, label.values())))


def counted(states: Iterable[str], order: Sequence[str]) -> str:
    """Return ``29 cached, 12 to run`` for states, in the order given, leaving out what does not occur."""
    count = collections.Counter(states)
    return ", ".join(f"{count[state]} {state}" for state in order if count[state])


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
