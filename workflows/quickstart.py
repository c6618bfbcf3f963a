"""Does tuning beat prompting? The quickstart study as a script; its values are in conf/study/quickstart.yaml.

    python workflows/quickstart.py [key=value ...]

does what `persllm run study=quickstart [key=value ...]` does, and shows the chain of steps behind each cell.
"""

import sys
from pathlib import Path

from persllm.compose import resolve
from persllm.execute import graceful_stop, run_plan
from persllm.plan import PlannedCell, build
from persllm.verbs.run import Progress, prepare


def chain(planned: PlannedCell) -> str:
    """Return the steps of one cell in order. A prompted arm has no pairs and no train."""
    steps = ["materials", "annotate", "split"]
    if planned.cell.config.method.tune is not None:
        steps += ["pairs"] if planned.cell.config.method.tune.dpo is not None else []
        steps += [f"train ({step.config['objective']})" for step in planned.train]
    return " -> ".join([*steps, "generate", "evaluate"])


def main(overrides: list[str]) -> int:
    """Expand the study into cells, run every step, then compare and report over all cells."""
    plan = build(resolve(["study=quickstart", *overrides]))
    for planned in plan.cells:
        print(f"{planned.cell.arm}, {planned.cell.persona}: {chain(planned)}")
    outputs = Path(plan.resolved.config.outputs)
    prepare(plan, outputs)
    with graceful_stop():
        outcome = run_plan(plan, outputs, Progress(len(plan.steps) + 2, sys.stdout).tell)
    print(f"report: {outcome.study}/report.html" if outcome.study else "nothing to compare")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
