"""What does each ingredient of PersLLM do? The whole recipe against the recipe with one ingredient switched off.

    python workflows/ablation.py [key=value ...]

A sweep on the command line is a grid; leaving out one at a time is not, so the cells are put together here. The whole
recipe is the baseline; steps that variants share (materials, split, SFT where only DPO is off) run once.
"""

import dataclasses
import sys
from pathlib import Path

from persllm.compose import Cell, Resolved, resolve
from persllm.execute import graceful_stop, run_plan
from persllm.plan import build
from persllm.verbs.run import Progress, prepare

OFF = {
    "analysis": ("method.tune.analysis", "false"),
    "anti_induction": ("method.tune.anti_induction", "false"),
    "temporal_label": ("method.tune.temporal_label", "none"),
    "reanswers": ("method.tune.reanswers", "false"),
    "materials": ("method.tune.materials", "false"),
    "general": ("method.tune.general", "false"),
    "dpo": ("method.tune.dpo", "null"),
}


def without(ingredient: str, words: list[str]) -> list[Cell]:
    """Return the cells of the recipe with one ingredient off, as an arm of its own."""
    key, value = OFF[ingredient]
    cells = resolve([*words, f"{key}={value}"]).cells
    return [dataclasses.replace(c, arm=f"persllm[{ingredient}=off]", variant=((key, value),)) for c in cells]


def study(overrides: list[str]) -> Resolved:
    """Return the whole recipe and each variant as one study."""
    words = ["study.name=ablation", "study.baseline=persllm", "method=persllm", *overrides]
    whole = resolve(words)
    return dataclasses.replace(whole, cells=whole.cells + [c for name in OFF for c in without(name, words)])


def main(overrides: list[str]) -> int:
    """Run the study."""
    plan = build(study(overrides))
    outputs = Path(plan.resolved.config.outputs)
    prepare(plan, outputs)
    with graceful_stop():
        outcome = run_plan(plan, outputs, Progress(len(plan.steps) + 2, sys.stdout).tell)
    print(f"report: {outcome.study}/report.html" if outcome.study else "nothing to compare")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
