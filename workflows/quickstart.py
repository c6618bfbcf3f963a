"""Does tuning beat prompting? The quickstart study as a script; its values are in conf/study/quickstart.yaml.

    python workflows/quickstart.py [key=value ...]

does what `persllm run study=quickstart [key=value ...]` does, and shows the chain of steps behind each cell.
"""

import sys

from persllm.compose import resolve
from persllm.plan import Plan, PlannedCell, build
from persllm.verbs.run import run_script


def chain(planned: PlannedCell) -> str:
    """Return the steps of one cell in order. A prompted arm has no pairs and no train."""
    steps = ["materials", "annotate", "split"]
    if planned.cell.config.method.tune is not None:
        steps += ["pairs"] if planned.cell.config.method.tune.dpo is not None else []
        steps += [f"train ({step.config['objective']})" for step in planned.train]
    return " -> ".join([*steps, "generate", "evaluate"])


def quickstart(overrides: list[str]) -> Plan:
    """Expand the study into cells and their steps, and show them."""
    plan = build(resolve(["study=quickstart", *overrides]))
    for planned in plan.cells:
        print(f"{planned.cell.arm}, {planned.cell.persona}: {chain(planned)}")
    return plan


def main(overrides: list[str]) -> int:
    """Run every step, then compare and report over all cells."""
    return run_script(lambda: quickstart(overrides))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
