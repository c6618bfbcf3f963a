"""Verb annotate: from a persona's materials to its items, by a model or as recorded; and their review by people."""

from __future__ import annotations

import argparse
import collections
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persllm import verbs
from persllm.errors import UserError
from persllm.verbs.run import Progress, prepare

if TYPE_CHECKING:
    from persllm.execute import Outcome
    from persllm.nodes import Step
    from persllm.review import Drafts

EXAMPLES = """\
  persllm annotate persona=./my_character annotate=local
  persllm annotate persona=./my_character annotate=api annotate.model=NAME
      annotate.endpoint.base_url=http://127.0.0.1:8000/v1
  persllm annotate persona=./my_character annotate=local --review
  persllm annotate persona=scrooge           what the pack ships, checked"""
GROUPS = ("persona", "annotate", "model")
"""What annotating looks at; see persllm.groups."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's options."""
    parser.add_argument(
        "--review", action="store_true", help="then open a local page to accept, edit or reject items one by one"
    )
    parser.add_argument("--port", type=int, help="the page's port (default: 8737, or any that is free)")


def main(args: argparse.Namespace) -> int:
    """Make the items, say what came of it, and open the page where it is asked for."""
    from persllm import compose, plan

    if not any(text.startswith("persona=") for text in args.overrides):
        raise UserError("annotate: name the persona, e.g. persllm annotate persona=./my_character annotate=local")
    if args.port is not None and not (args.review and 0 < args.port < 65536):
        raise UserError(f"--port {args.port}: goes with --review and is a number between 1 and 65535")
    resolved = compose.resolve(args.overrides)
    outputs = Path(resolved.config.outputs)
    steps = plan.annotate_steps(resolved)
    for note in resolved.notes:
        if "items" in note:
            print(f"note: {note}")
    prepare(resolved.config, outputs)
    if args.review:
        from persllm.review import require_own

        require_own([_drafts(step, outputs) for step in steps])
    outcome = _make(args, steps, outputs)
    if outcome is None:
        return 130
    if outcome.failed:
        return _failed(args, steps, outcome, outputs)
    for step in steps:
        _show(step, outputs, step in outcome.done)
    if args.review:
        from persllm.review import serve

        code = serve([_drafts(step, outputs) for step in steps], args.port or 0)
        print(f"to apply: {verbs.command('annotate', args.overrides)}")
        return code
    print(f"review: {verbs.command('annotate', [*args.overrides, '--review'])}")
    print(f"train:  {verbs.command('run', _trainable(args.overrides, steps, outputs))}")
    return 0


def _trainable(overrides: list[str], steps: list[Step], outputs: Path) -> list[str]:
    """Return the words that train on the items, without cross-stage pairs where a persona has no re-answers."""
    made = [step.directory(outputs).artifacts / "reanswers.jsonl" for step in steps]
    lacking = any(not path.stat().st_size for path in made)
    return [*overrides, "pairs.cross_stage=false"] if lacking else overrides


def _make(args: argparse.Namespace, steps: list[Step], outputs: Path) -> Outcome | None:
    """Run the steps, having said what is in a long text and what annotating is expected to take; None where stopped."""
    from persllm.execute import Interrupted, Outcome, graceful_stop, run_steps

    outcome, track = Outcome(), {"mode": "disabled"}
    tell = Progress(2 * len(steps), sys.stdout).tell
    try:
        with graceful_stop():
            run_steps([step.inputs["materials"] for step in steps], outputs, track, tell, outcome)
            if not outcome.failed:
                for step in steps:
                    _announce(step, outputs)
                run_steps(steps, outputs, track, tell, outcome)
    except (Interrupted, KeyboardInterrupt):
        again = verbs.command("annotate", args.overrides)
        print(f"\nstopped; the answers that came are kept. To go on:\n  {again}", file=sys.stderr)
        return None
    return outcome


def _failed(args: argparse.Namespace, steps: list[Step], outcome: Outcome, outputs: Path) -> int:
    """Show the personas that succeeded, tell why each other one failed, and return the exit code."""
    for step in steps:
        if step in outcome.done or step in outcome.cached:
            _show(step, outputs, step in outcome.done)
    failures = [step.directory(outputs).failure() for step in outcome.failed]
    for step, failure in zip(outcome.failed, failures, strict=True):
        if failure is None:
            print(f"error: {step.id}: another process took this step over; see persllm status", file=sys.stderr)
        else:
            print(f"error: {step.label}: {failure['message']}\n{failure['hint']}", file=sys.stderr)
    print(f"to go on:\n  {verbs.command('annotate', args.overrides)}", file=sys.stderr)
    return 2 if all(failure and failure["class"] == "config" for failure in failures) else 1


def _drafts(step: Step, outputs: Path) -> Drafts:
    from persllm.review import Drafts

    read = step.inputs["materials"].directory(outputs).artifacts
    return Drafts(step.directory(outputs).artifacts, read, Path(step.local["folder"]))


def _announce(step: Step, outputs: Path) -> None:
    from persllm.steps import annotate, materials

    if step.directory(outputs).is_done():
        return
    read = step.inputs["materials"].directory(outputs).artifacts
    if (read / "survey.txt").is_file():
        print((read / "survey.txt").read_text(encoding="utf-8"))
    if step.config["annotator"] != "recorded":
        expected = annotate.affordable(*materials.read(read), step.config, step.local, outputs)
        told = expected.told(step.local["endpoint"]["budget"], step.config["attempts"])
        verbs.console().print(f"{step.label}: {told}")


def _reviewed(step: Step, artifacts: Path) -> dict[str, int]:
    """Return how many drafts were decided on: an accepted one changes nothing, and so no artifact tells."""
    from persllm import reviews
    from persllm.review.drafts import read_drafts

    return reviews.apply(*read_drafts(artifacts / "drafts.jsonl"), reviews.load(Path(step.local["folder"]))).counts


def _show(step: Step, outputs: Path, now: bool) -> None:
    """Print what came of a persona's annotation, and what it cost where it was made just now."""
    from persllm import records
    from persllm.records import PATTERNS, Item, Reanswer
    from persllm.store import read_json

    directory = step.directory(outputs)
    items = records.read(Item, directory.artifacts / "items.jsonl")
    again = records.read(Reanswer, directory.artifacts / "reanswers.jsonl")
    told: dict[str, Any] = read_json(directory.artifacts / "yield.json")
    console = verbs.console()
    console.print(f"\n{step.label}: {verbs.many(len(items), 'item')}, {len(again)} answers to another stage's")
    stages = list(dict.fromkeys(item.stage for item in items))
    table = verbs.table(["stage", *PATTERNS], right=PATTERNS)
    for stage in stages:
        count = collections.Counter(item.pattern for item in items if item.stage == stage)
        table.add_row(stage, *(str(count[pattern]) for pattern in PATTERNS))
    console.print(table)
    for heading, key in (("set aside", "set_aside"), ("broken answers, later attempts included", "broken_answers")):
        if told[key]:
            console.print(f"{heading}: {sum(told[key].values())}")
            for reason, count in sorted(told[key].items(), key=lambda entry: -entry[1]):
                console.print(f"  {count:>5}  {reason}")
    if told["steering_materials"]:
        names = ", ".join(told["steering_materials"][:5])
        count = len(told["steering_materials"])
        console.print(f"{verbs.many(count, 'paragraph')} that seem to address a model, quoted like all others: {names}")
    counts = _reviewed(step, directory.artifacts)
    if any(count for key, count in counts.items() if key != "open"):
        from persllm.review import told as in_words

        console.print(f"reviews: {in_words(counts)}")
    cost = (read_json(directory.path / "run.json") or {}).get("cost", {})
    if now and cost.get("requests"):
        money = "" if cost.get("money") is None else f", {cost['money']:.4f} in money"
        retries = cost["requests"] - cost["answers"] - cost["refused"]
        console.print(
            f"asked this time: {cost['answers']} answers, {retries} retries, {cost['prompt_tokens']:,} prompt tokens "
            f"and {cost['completion_tokens']:,} of answers{money}"
        )
    if now and cost.get("uncounted"):
        console.print(f"{verbs.many(cost['uncounted'], 'answer')} without usage: their tokens are not counted above")
    console.print(f"files: {directory.artifacts}", soft_wrap=True)
