"""What does each ingredient of PersLLM do? The whole recipe against the recipe with one ingredient switched off.

    python workflows/ablation.py [key=value ...]

A sweep on the command line is a grid; leaving out one at a time is not, so the cells are put together here. The whole
recipe is the baseline; steps that variants share (materials, split, SFT where only DPO is off) run once.
"""

import dataclasses
import sys

from persllm.compose import Cell, Resolved, resolve
from persllm.plan import build
from persllm.verbs.run import run_script

OFF = {
    "analysis": ["method.tune.analysis=false"],
    "anti_induction": ["method.tune.anti_induction=false"],
    # Weights of its own would still tell a stage apart.
    "temporal_label": ["method.tune.temporal_label=none", "method.tune.dpo.per_stage=false"],
    "repeat": ["method.tune.repeat=1"],
    "materials": ["method.tune.materials=false"],
    "general": ["method.tune.general=false"],
    "cross_persona": ["pairs.cross_persona=false"],
    # With as many pairs as both kinds give together: of a few, each would be seen again and again.
    "cross_stage": ["pairs.cross_stage=false", "pairs.cross_persona_limit=136"],
    "per_stage": ["method.tune.dpo.per_stage=false"],
    "dpo": ["method.tune.dpo=null"],
}


def without(ingredient: str, words: list[str]) -> list[Cell]:
    """Return the cells of the recipe with one ingredient off, as an arm of its own."""
    off = OFF[ingredient]
    variant = tuple((key, value) for key, _, value in (word.partition("=") for word in off))
    cells = resolve([*words, *off]).cells
    return [dataclasses.replace(c, arm=f"persllm[{ingredient}=off]", variant=variant) for c in cells]


def study(overrides: list[str]) -> Resolved:
    """Return the whole recipe and each variant as one study."""
    words = ["study.name=ablation", "study.baseline=persllm", "method=persllm", *overrides]
    whole = resolve(words)
    return dataclasses.replace(whole, cells=whole.cells + [c for name in OFF for c in without(name, words)])


def main(overrides: list[str]) -> int:
    """Run the study."""
    return run_script(lambda: build(study(overrides)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
