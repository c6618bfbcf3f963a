"""``persllm compare``: print the table and the contrasts of a study."""

from __future__ import annotations

import argparse
import csv
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from persllm import verbs
from persllm.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from persllm.execute import Outcome, Tell
    from persllm.plan import Plan

EXAMPLES = """  persllm compare
  persllm compare --json
  column -s, -t outputs/studies/quickstart-*/contrasts.csv"""

_FIRST = 11
"""So many metrics beside the primary one are printed unasked: those of the held-out items."""
_ARM = 16
"""An arm's name up to this long leaves room for three metrics beside it on 80 columns, else for two."""
_COSTS = {
    "train_seconds": "train s",
    "train_tokens": "train tok",
    "prompt_tokens": "prompt tok",
    "seconds_per_reply": "s a reply",
    "peak_memory_mb": "peak MB",
}

Table = list[dict[str, str]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)
    parser.add_argument("--all", action="store_true", help="print every metric, not the first ones only")


def require_cells(args: argparse.Namespace, plan: Plan, outputs: Path) -> list[str]:
    """Return the cells that are not evaluated yet.

    Raises:
        UserError: no cell is.
    """
    from persllm.finish import finish, record

    compare, _ = finish(record(plan), outputs)
    if not compare.config["cells"]:
        raise UserError(f"no cell of this study is evaluated yet; run it first: {verbs.command('run', args.overrides)}")
    return compare.config["missing"]


def missing_note(missing: list[str]) -> str:
    """Return one line that names the cells a table lacks."""
    told = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return f"note: not evaluated, and so not in it: {verbs.many(len(missing), 'cell')}: {told}"


def summarise(args: argparse.Namespace, plan: Plan, outputs: Path) -> tuple[int, Path | None]:
    """Run compare and report over the evaluated cells; return the exit code and, where made, the study's folder."""
    from persllm.execute import Outcome, conclude
    from persllm.finish import record
    from persllm.verbs.run import drive, failures

    def work(tell: Tell) -> Outcome:
        outcome = Outcome()
        conclude(record(plan), outputs, tell, outcome)
        return outcome

    outcome = drive(args, plan, outputs, [], work)
    if outcome is None:
        return 130, None
    for line in failures(args, outputs, outcome):
        print(line, file=sys.stderr)
    return (1 if outcome.failed else 0), outcome.study


def main(args: argparse.Namespace) -> int:
    """Print the table of a study whose cells are evaluated; make it first where it is not there."""
    plan, outputs = verbs.load(args.overrides)
    missing = require_cells(args, plan, outputs)
    folder: Path | None = outputs / "studies" / plan.name
    code = 0
    if not _current(plan, outputs, outputs / "studies" / plan.name):
        if missing:
            raise UserError(
                f"{len(missing)} of {verbs.many(len(plan.cells), 'cell')} not evaluated yet; finish them with "
                f"`{verbs.command('run', args.overrides)}`, or compare what is there with "
                f"`{verbs.command('report', args.overrides)}`"
            )
        code, folder = summarise(args, plan, outputs)
        if folder is None:
            return code
    assert folder is not None
    if args.json:
        tables = {"table": read(folder / "table.csv"), "contrasts": read(folder / "contrasts.csv")}
        verbs.print_json({"folder": str(folder), "missing": missing, **tables})
        return code
    console = verbs.console()
    show(console, folder, plan.resolved.study.primary, everything=args.all)
    console.print()
    if missing:
        console.print(missing_note(missing))
    console.print(f"from {folder / 'table.csv'} and contrasts.csv", soft_wrap=True)
    return code


def _current(plan: Plan, outputs: Path, folder: Path) -> bool:
    """Return whether the study's folder was filled from what is evaluated now."""
    from persllm.finish import finish, record
    from persllm.store import read_json

    told = read_json(folder / "study.json")
    return isinstance(told, dict) and finish(record(plan), outputs)[0].id in told["steps"]


def read(path: Path) -> Table:
    """Read a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def show(console: Console, folder: Path, primary: str, everything: bool = False) -> None:
    """Print a study's table and contrasts: the primary metric, its contrasts, other metrics, the costs.

    Args:
        console: where to.
        folder: the study's.
        primary: its primary metric.
        everything: every other metric, not only the first ``_FIRST``.
    """
    table, contrasts = read(folder / "table.csv"), read(folder / "contrasts.csv")
    metrics = list(dict.fromkeys(row["metric"] for row in table))
    if primary in metrics:
        console.print(f"{primary} ({_direction(primary)}; the primary metric)", style="bold")
        console.print(_primary(table, primary))
    told = [row for row in contrasts if row["metric"] == primary]
    if told:
        console.print(f"\ndifferences in {primary}", style="bold")
        console.print(_contrasts(told))
    others = [metric for metric in metrics if metric != primary]
    beside = 3 if max(len(row["arm"]) for row in table) <= _ARM else 2
    shown = others if everything else others[:_FIRST]
    for start in range(0, len(shown), beside):
        console.print()
        console.print(_block(table, shown[start : start + beside]))
    if len(others) > len(shown):
        left = verbs.many(len(others) - len(shown), "further metric")
        console.print(f"\n{left}: in the report, or `persllm compare --all`")
    console.print("\ncost", style="bold")
    console.print(_costs(table))


def _direction(metric: str) -> str:
    from persllm.reporting import direction

    return direction(metric)


def _number(text: str, places: int = 3) -> str:
    try:
        value = float(text)
    except ValueError:
        return "-"
    return "-" if value != value else f"{value:.{places}f}" if abs(value) < 100 else f"{value:,.0f}"


def _interval(row: dict[str, str]) -> str:
    return f"[{_number(row['low'])}, {_number(row['high'])}]"


def _primary(table: Table, metric: str) -> object:
    made = verbs.table(("arm", "mean", "interval", "n", "missing"), right=("mean", "n", "missing"), fixed=("interval",))
    for row in table:
        if row["metric"] == metric:
            made.add_row(row["arm"], _number(row["mean"]), _interval(row), row["n"], row["missing"])
    return made


def _contrasts(rows: Table) -> object:
    # Short, so that two arms of the shipped names fit on 80 columns beside it.
    headers = ("arm", "against", "diff.", "interval", "adj. p", "detectable")
    made = verbs.table(headers, right=("diff.", "adj. p", "detectable"), fixed=("interval",))
    for row in rows:
        difference = _number(row["difference"])
        signed = difference if difference.startswith("-") else f"+{difference}"
        tested = _number(row["p_adjusted"], 4), _number(row["detectable"])
        made.add_row(row["arm"], row["baseline"], signed, _interval(row), *tested)
    return made


def _block(table: Table, metrics: list[str]) -> object:
    arms = list(dict.fromkeys(row["arm"] for row in table))
    cells = {(row["arm"], row["metric"]): f"{_number(row['mean'], 2)} {_short(row)}" for row in table}
    made = verbs.table(("arm", *map(_heading, metrics)))
    for arm in arms:
        made.add_row(arm, *(cells.get((arm, metric), "-") for metric in metrics))
    return made


def _heading(metric: str) -> str:
    """Return a metric's name, broken after an underscore, over what is better."""
    lines = textwrap.wrap(metric.replace("_", "_ "), 20)
    return "\n".join([*(line.replace("_ ", "_") for line in lines), f"({_direction(metric)})"])


def _short(row: dict[str, str]) -> str:
    return f"[{_number(row['low'], 2)}, {_number(row['high'], 2)}]"


def _costs(table: Table) -> object:
    first = {row["arm"]: row for row in reversed(table)}
    made = verbs.table(("arm", *_COSTS.values()), right=_COSTS.values())
    for arm in dict.fromkeys(row["arm"] for row in table):
        made.add_row(arm, *(_number(first[arm][key], 1 if "seconds" in key else 0) for key in _COSTS))
    return made
