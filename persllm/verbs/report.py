"""``persllm report``: render the page of a study from what is done."""

from __future__ import annotations

import argparse

from persllm import verbs

EXAMPLES = """  persllm report
  persllm report study.primary=who_accuracy   another metric, same evaluations"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)


def main(args: argparse.Namespace) -> int:
    """Compare and report over the cells that are evaluated, and print where the page lies."""
    from persllm.verbs.compare import missing_note, require_cells, summarise

    plan, outputs = verbs.load(args.overrides)
    missing = require_cells(args, plan, outputs)
    code, folder = summarise(args, plan, outputs)
    if folder is None:
        return code
    if args.json:
        verbs.print_json({"report": str(folder / "report.html"), "missing": missing})
        return code
    console = verbs.console()
    if missing:
        console.print(missing_note(missing))
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    return code
