"""How long ``submit`` and ``status`` take for a study of 500 cells: ``python -m benchmarks.cluster``.

Where Slurm answers, the study is sent, held, asked for, and cancelled again; no step runs. Elsewhere only ``status`` is
timed, on a study that nothing was done of, and that is said.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

LIMIT_SECONDS = 2.0
"""What ``status`` may take, as its best of three."""
ROUNDS = 3


def _timed(verb: str, words: Sequence[str], rounds: int = 1) -> tuple[float, str]:
    """Return the least wall time of a verb in a process of its own, and what it printed last."""
    took, told = [], ""
    for _ in range(rounds):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "persllm.cli", verb, *words], stdout=subprocess.PIPE, text=True, check=True
        )
        took.append(time.perf_counter() - start)
        told = done.stdout
    return min(took), told


def _answers() -> bool:
    return shutil.which("sbatch") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


def _cancel(outputs: Path) -> None:
    """Cancel whatever was sent, also where not all of it could be."""
    for file in outputs.glob("studies/*/slurm/*/arrays.json"):
        jobs = [array["job"] for array in json.loads(file.read_text())["arrays"] if array["job"]]
        subprocess.run(["scancel", *jobs], check=bool(jobs))


def main() -> int:
    """Print the times; return 1 where ``status`` takes too long."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        words = ["study.name=bench", "method=sft", "seed=range(0,500)", "persona=scrooge", f"outputs={folder}"]
        slurm = _answers()
        if slurm:
            try:
                took, told = _timed("submit", [*words, "launch=slurm_cpu", "launch.sbatch=[--hold]", "--json"])
                sent = json.loads(told)["arrays"]
                print(f"submit: {took:.2f} s for {sum(len(array['elements']) for array in sent)} elements")
                took, told = _timed("status", words, ROUNDS)
            finally:
                _cancel(Path(folder))
        else:
            print("no Slurm answers here: nothing is sent")
            took, told = _timed("status", words, ROUNDS)
        counts = next(line for line in told.splitlines() if line.startswith("bench: "))
        print(f"status: {took:.2f} s, best of {ROUNDS} ({counts}); load {os.getloadavg()[0]:.1f}")
    return int(took > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
