"""``persllm run``: run a study, or go on with it; and what the other running verbs share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from persllm import verbs
from persllm.errors import UserError

if TYPE_CHECKING:
    from persllm.execute import Outcome, Tell
    from persllm.nodes import Step
    from persllm.plan import Plan
    from persllm.schema import Config

EXAMPLES = """  persllm run                                   the quickstart study
  persllm run method=prompt_profile,sft persona=scrooge seed=0,1,2
  persllm run persona=./my_character            your own pack
  persllm run study.name=ranks method=persllm method.tune.lora.rank=4,16"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)


class Progress:
    """One line per step; what is cached is one line together."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self.total = total
        self.stream = stream
        self.seen = 0
        self.waited: set[str] = set()

    def start(self, steps: list[Step], outputs: Path) -> None:
        """Say how much is there already."""
        cached = sum(step.directory(outputs).is_done() for step in steps)
        if cached:
            self._line(f"{verbs.many(cached, 'step')} cached")

    def tell(self, event: str, step: Step, seconds: float) -> None:
        """Receive what ``execute.run_steps`` tells."""
        name = f"{step.name} {step.label}"
        if event == "start":
            if self.stream.isatty():
                # Left open at column 0: a step's own progress bar writes over it, and so does the line that follows.
                self.stream.write(f"[{self.seen + 1}/{self.total}] {name} ...\r")
                self.stream.flush()
            return
        if event == "waiting":
            if step.id not in self.waited:
                self.waited.add(step.id)
                self._line(f"waiting for {name}, which another process is running")
            return
        self.seen += 1
        if event != "cached":
            told = {"done": verbs.duration(seconds), "failed": f"FAILED after {verbs.duration(seconds)}"}
            self._line(f"[{self.seen}/{self.total}] {name}  {told.get(event, 'skipped: it needs a failed step')}")

    def _line(self, text: str) -> None:
        clear = "\r\x1b[K" if self.stream.isatty() else ""
        self.stream.write(f"{clear}{text}\n")
        self.stream.flush()


def prepare(config: Config, outputs: Path) -> None:
    """Check that outputs can be written, and set up the process before torch is imported."""
    from persllm.store import require_writable

    require_writable(outputs)
    if not sys.stderr.isatty():
        # A log file wants one line per step, not every state of the libraries' progress bars.
        os.environ.setdefault("TQDM_DISABLE", "1")
    threads = config.launch.threads
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)


def drive(
    args: argparse.Namespace, plan: Plan, outputs: Path, steps: list[Step], work: Callable[[Tell], Outcome]
) -> Outcome | None:
    """Run ``work`` with progress lines.

    Args:
        args: the command line.
        plan: the study.
        outputs: where step directories live.
        steps: what ``work`` may run before compare and report.
        work: gets a function to tell about each step.

    Returns:
        What became of the steps; None where the user stopped it (exit code 130).
    """
    from persllm.execute import Interrupted, graceful_stop

    prepare(plan.resolved.config, outputs)
    progress = Progress(len(steps) + 2, sys.stderr if args.json else sys.stdout)
    progress.start(steps, outputs)
    try:
        with graceful_stop():
            return work(progress.tell)
    except (Interrupted, KeyboardInterrupt):
        print("\nstopped; what is finished is kept. To go on:", file=sys.stderr)
        print(f"  {verbs.command('run', args.overrides)}", file=sys.stderr)
        return None


def close(args: argparse.Namespace, plan: Plan, outputs: Path, outcome: Outcome | None) -> int:
    """Print the table and what to do next; return the exit code."""
    from persllm.verbs import compare

    if outcome is None:
        return 130
    code = 1 if outcome.failed or outcome.skipped else 0
    if args.json:
        verbs.print_json(_as_json(outcome))
        return code
    console = verbs.console()
    if not (outcome.done or outcome.failed or outcome.skipped):
        console.print(f"nothing to run: every step of {plan.resolved.study.name} is done")
    if outcome.study is not None:
        console.print()
        compare.show(console, outcome.study, plan.resolved.study.primary)
        console.print()
    for line in failures(args, outputs, outcome) or _next(args, plan, outputs, outcome):
        console.print(line, soft_wrap=True)
    return code


def main(args: argparse.Namespace) -> int:
    """Run the study."""
    from persllm.execute import run_plan

    plan, outputs = verbs.load(args.overrides)
    if plan.resolved.config.launch.kind.value == "slurm":
        raise UserError("launch=slurm: `persllm run` runs here; send it with `persllm submit`, or leave launch out")
    outcome = drive(args, plan, outputs, plan.steps, lambda tell: run_plan(plan, outputs, tell))
    return close(args, plan, outputs, outcome)


def run_script(make: Callable[[], Plan]) -> int:
    """Run a study that a script puts together; return the exit code that the command line would give.

    Args:
        make: builds the plan.
    """
    from persllm.cli import guard
    from persllm.execute import Interrupted, graceful_stop, run_plan

    def work() -> int:
        plan = make()
        outputs = Path(plan.resolved.config.outputs)
        prepare(plan.resolved.config, outputs)
        try:
            with graceful_stop():
                outcome = run_plan(plan, outputs, Progress(len(plan.steps) + 2, sys.stdout).tell)
        except Interrupted:
            print("stopped; the same command continues", file=sys.stderr)
            return 130
        print(f"report: {outcome.study}/report.html" if outcome.study else "nothing to compare")
        return 1 if outcome.failed else 0

    return guard(work)


def _as_json(outcome: Outcome) -> dict[str, object]:
    lists = {"done": outcome.done, "cached": outcome.cached, "failed": outcome.failed, "skipped": outcome.skipped}
    told: dict[str, object] = {name: [step.id for step in steps] for name, steps in lists.items()}
    return told | {"study": None if outcome.study is None else str(outcome.study)}


def failures(args: argparse.Namespace, outputs: Path, outcome: Outcome) -> list[str]:
    """Return at most four lines: what failed, how to mend it, and the command to go on."""
    lines = []
    for step in outcome.failed[:2]:
        failure = step.directory(outputs).failure()
        if failure is None:
            lines.append(f"{step.id}: another process took this step over; see persllm status")
        else:
            lines.append(f"{step.id} failed ({failure['class']}): {failure['message']}; {failure['hint']}")
    more = len(outcome.failed) - len(lines)
    left = [f"{more} more failed"] * bool(more)
    left += [f"{verbs.many(len(outcome.skipped), 'step')} skipped for want of a failed one"] * bool(outcome.skipped)
    if left:
        lines.append(f"{', '.join(left)}: {verbs.command('status', args.overrides)}")
    if lines:
        lines.append(f"to go on: {verbs.command('run', args.overrides)}")
    return lines


def _next(args: argparse.Namespace, plan: Plan, outputs: Path, outcome: Outcome) -> list[str]:
    lines = [] if outcome.study is None else [f"report: {outcome.study / 'report.html'}"]
    lines.append(f"chat: {chat_command(plan, args.overrides)}")
    wandb = outputs / "wandb"
    if plan.resolved.config.track.mode.value != "disabled" and wandb.is_dir():
        lines.append(f"curves: wandb leet {wandb}")
    return lines


def chat_command(plan: Plan, overrides: list[str]) -> str:
    """Return the command that talks to a study's last tuned arm, or to its last arm where none is tuned.

    What picks other cells of the study is left out; what changes this one is kept.
    """
    from persllm import packs

    first = plan.cells[0].cell.persona
    own = [c.cell for c in plan.cells if c.cell.persona == first]
    cell = next((c for c in reversed(own) if c.config.method.tune is not None), own[-1])
    config = cell.config
    swept = {key for key, _ in cell.variant}
    keys = [word.split("=", 1)[0] for word in overrides]
    kept = [
        word
        for word, key in zip(overrides, keys, strict=True)
        if key not in ("method", "persona", "seed", "track", *swept) and not key.startswith(("study.", "track."))
    ]
    card = packs.load_card(packs.folder(config.persona.pack), config.persona.stages)
    words = [f"persona={config.persona.pack}", f"stage={list(card.stages)[-1]}", f"method={cell.arm.split('[')[0]}"]
    words += [f"{key}={value}" for key, value in cell.variant] + [f"seed={cell.seed}"] * (cell.seed != 0)
    others = [c.cell.config.persona.pack for c in plan.cells if c.cell.persona != first]
    if others and "pairs.others" not in keys:
        # Chat composes one persona only; its pairs were made against the study's others.
        words.append(f"pairs.others=[{','.join(dict.fromkeys(others))}]")
    return verbs.command("chat", words + kept)
