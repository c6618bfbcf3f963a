"""``persllm retry``: run the failed steps and what waited for them, nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from persllm import verbs

if TYPE_CHECKING:
    from persllm.execute import Outcome, Tell
    from persllm.plan import Plan, Step

EXAMPLES = """  persllm retry
  persllm retry strategy.micro_batch=4          after running out of memory"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)


def failed_and_waiting(plan: Plan, outputs: Path) -> list[Step]:
    """Return the failed steps and those that need one of them and nothing else that is missing."""
    chosen: dict[str, Step] = {}
    for step in plan.steps:
        state = step.directory(outputs).state()
        needed = [s for s in step.inputs.values() if s.id not in chosen and not s.directory(outputs).is_done()]
        waits = any(s.id in chosen for s in step.inputs.values())
        if not needed and (state == "failed" or (waits and state != "done")):
            chosen[step.id] = step
    return list(chosen.values())


def main(args: argparse.Namespace) -> int:
    """Run what failed, then compare and report."""
    from persllm.execute import Outcome, conclude, run_steps, tracking
    from persllm.plan import finish
    from persllm.verbs.run import close, drive

    plan, outputs = verbs.load(args.overrides)
    steps = failed_and_waiting(plan, outputs)
    ending = [step for step in finish(plan, outputs) if step.directory(outputs).state() == "failed"]
    if not steps and not ending:
        verbs.console(stderr=args.json).print(f"nothing failed in {plan.resolved.study.name}")
        return 0

    def work(tell: Tell) -> Outcome:
        outcome = Outcome()
        run_steps(steps, outputs, tracking(plan), tell, outcome)
        conclude(plan, outputs, tell, outcome)
        return outcome

    return close(args, plan, outputs, drive(args, plan, outputs, steps, work))
