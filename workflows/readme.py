"""Write a finished study's table and answer into README.md, between its two marks.

    python -m workflows.readme docs/persllm_paper_quick

The folder holds ``table.csv`` and ``report.md`` as a study's own folder does. No number of that part of the README is
typed: a test compares it with what this makes.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from persllm.metrics import known
from persllm.reporting import DASH, arrow, interval, short

README = Path(__file__).parent.parent / "README.md"
MARKS = "<!-- study: made by workflows/readme.py -->", "<!-- end of study -->"
SHOWN = (
    "gold_log_likelihood",
    "who_accuracy",
    "when_accuracy",
    "moment_accuracy_pmi",
    "induction_d_prime_pmi",
    "stance_accuracy_pmi",
    "break_rate",
    "general_accuracy",
)
"""Metrics of the table, at most; those that the study lacks are left out."""
COSTS = {"train_seconds": "train s", "prompt_tokens": "prompt tokens"}


def _number(text: str) -> float | None:
    return float(text) if text else None


def _cell(row: dict[str, str] | None) -> str:
    if row is None or not row["mean"]:
        return DASH
    return f"{short(_number(row['mean']))} {interval(_number(row['low']), _number(row['high']))}"


def table(path: Path) -> str:
    """Return a study's table.csv as a Markdown table: an arm a line, its means with intervals, and its costs."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = {(row["arm"], row["metric"]): row for row in csv.DictReader(file)}
    arms = list(dict.fromkeys(arm for arm, _ in rows))
    shown = [metric for metric in SHOWN if any((arm, metric) in rows for arm in arms)]
    heads = ["arm", *(f"{known(metric).title} {arrow(metric)}" for metric in shown), *COSTS.values()]
    lines = [heads, ["---"] * len(heads)]
    for arm in arms:
        cells = [_cell(rows.get((arm, metric))) for metric in shown]
        costs = [_number(rows[arm, shown[0]][name]) for name in COSTS]
        lines.append([f"`{arm}`", *cells, *(DASH if cost is None else f"{cost:,.0f}" for cost in costs)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def answer(path: Path) -> str:
    """Return the words of a study's report.md: what stands between its title and its first table."""
    paragraphs = path.read_text(encoding="utf-8").split("\n")[1:]
    end = next(place for place, line in enumerate(paragraphs) if line.startswith("|"))
    return "\n".join(paragraphs[:end]).strip() + "\n"


def section(folder: Path) -> str:
    """Return what stands between the marks."""
    return f"{MARKS[0]}\n\n{table(folder / 'table.csv')}\n{answer(folder / 'report.md')}\n{MARKS[1]}"


def main(folder: Path, readme: Path = README) -> None:
    """Put a study's section in the place of the one that stands in the README."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        raise SystemExit(f"{readme}: the marks {MARKS[0]!r} and {MARKS[1]!r} are not there; put them in, in this order")
    readme.write_text(before + section(folder) + after, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "table.csv").is_file():
        raise SystemExit("usage: python -m workflows.readme FOLDER, a folder with a study's table.csv and report.md")
    main(Path(sys.argv[1]))
