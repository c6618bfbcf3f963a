"""What a job of a cluster runs: one element of an array, ``python -m persllm.launch.job FOLDER ARRAY INDEX``.

The exit code is the truth, for Slurm and its dependencies: 0 only where every step of the element is done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from persllm.cli import guard
from persllm.execute import (
    Outcome,
    conclude,
    frozen_context,
    run_record,
    run_step,
)
from persllm.finish import StudyRecord
from persllm.launch import EXIT_BUSY, EXIT_INPUTS
from persllm.launch.submission import element_of, ending_of, study_of
from persllm.nodes import Step
from persllm.stop import STOPS, TAKEN, Interrupted, graceful_stop, stop_asked, stopped_by
from persllm.store import BEAT_SECONDS, STALE_BEATS, Lease, StepDir, read_json

TOLD_TO_END = 143
"""Exit code after SIGTERM, as shells give it: scancel, or preemption, after which Slurm itself requeues."""


def say(text: str) -> None:
    """Print one line to the job's log."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", flush=True)


def run_element(folder: Path, ids: list[str]) -> int:
    """Run the steps of an element in order, each whose inputs are done.

    Args:
        folder: of the submission, ``OUTPUTS/studies/NAME/slurm/N``.
        ids: the steps, or the study whose end this is.

    Returns:
        0 where all are done, else 1 where one failed, else ``EXIT_INPUTS`` or ``EXIT_BUSY``.

    Raises:
        Interrupted: a signal asked to stop.
    """
    outputs, study = folder.parents[3], study_of(folder)
    codes = set()
    for id in ids:
        if stop_asked():
            raise Interrupted
        began = time.time()
        code = _end(study, outputs) if id == ending_of(study.folder) else _step(outputs / id, study.track)
        if not code:
            say(f"{id}: done ({time.time() - began:.1f} s)")
        codes.add(code)
    return 1 if 1 in codes else max(codes)


def _step(path: Path, track: dict[str, Any]) -> int:
    directory = StepDir(path)
    if directory.is_done():
        return 0
    context = frozen_context(directory, track)
    lacking = [id for id in context.input_ids.values() if not StepDir(context.outputs / id).is_done()]
    if lacking:
        say(f"{context.id}: not run, for it needs {', '.join(lacking)}, which is not done")
        return EXIT_INPUTS
    lease = _claim(directory)
    if lease is None and directory.is_done():
        return 0
    if lease is None:
        held = directory.owner() or {}
        say(f"{context.id}: not run, for {held.get('host')} pid {held.get('pid')} is running it")
        return EXIT_BUSY
    if run_step(directory, lease, context):
        return 0
    failure = directory.failure() or {"class": "unknown", "message": TAKEN}
    say(f"{context.id}: failed ({failure['class']}): {failure['message']}")
    return 1


def _claim(directory: StepDir) -> Lease | None:
    """Take the lease; an owner without a sign of life is outwaited: it may be this job's own attempt on a lost node."""
    meaning, inputs = (read_json(directory.path / name) for name in ("config.json", "inputs.json"))
    until = time.time() + (STALE_BEATS + 1) * BEAT_SECONDS
    while True:
        lease = directory.claim(meaning, inputs)
        if lease is not None or directory.is_done() or stop_asked() or time.time() > until:
            return lease
        time.sleep(1.0)


def _end(study: StudyRecord, outputs: Path) -> int:
    def tell(event: str, step: Step, _seconds: float) -> None:
        say(f"{step.id}: {event}")

    outcome = Outcome()
    conclude(study, outputs, tell, outcome)
    if outcome.failed:
        return 1
    if outcome.study is None:
        say(f"{study.folder}: nothing to compare, for no cell is whole")
        return EXIT_INPUTS
    return 0


def _requeue() -> str:
    """Put this job back into the queue; return what hindered it, or an empty string."""
    element = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", element], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return "scontrol is not on PATH there; a container of launch.prefix must bring it"
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return " ".join(done.stderr.split()) if done.returncode else ""


def _open(folder: Path, ids: list[str]) -> StepDir | None:
    """Return the step of an element that was cut short; None for compare and report, which have no id there."""
    outputs = folder.parents[3]
    left = [StepDir(outputs / id) for id in ids if (outputs / id / "config.json").is_file()]
    return next((d for d in left if not d.is_done() and d.failure() is None), None)


def _time_limits(folder: Path, directory: StepDir | None) -> int:
    """Return how many jobs of this submission a step did not fit into, this one included."""
    if directory is None:
        return int(os.environ.get("SLURM_RESTART_COUNT", 0)) + 1
    # Slurm's own count has preemptions and lost nodes in it, for which no limit is to blame.
    since = read_json(folder / "arrays.json")["since"]
    cuts = [cut for cut in directory.interruptions() if cut["time"] >= since]
    return max(1, sum(cut["reason"] == STOPS[signal.SIGUSR1] for cut in cuts))


def _give_up(directory: StepDir | None, message: str) -> None:
    """Mark the step that was cut short as failed; its saved state stays."""
    say(message)
    if directory is None:
        return
    lease = _claim(directory)
    if lease is not None:
        hint = "raise launch.time or launch.requeues; `persllm retry` goes on from the saved state"
        lease.fail({"class": "timeout", "message": message, "hint": hint}, run_record(time.time(), lease.restarts))


def cut_short(folder: Path, ids: list[str]) -> int:
    """End an element that a signal interrupted: back into the queue before a time limit, as often as is allowed."""
    if stopped_by() != signal.SIGUSR1:
        say("told to end; what was done is saved")
        return TOLD_TO_END
    launch = read_json(folder / "launch.json")
    directory = _open(folder, ids)
    limits = _time_limits(folder, directory)
    limit = f"launch.time={launch['time']} was too short in {limits} job{'s' * (limits > 1)}"
    if limits > launch["requeues"]:
        _give_up(directory, limit)
        return 1
    say(f"the time limit launch.time={launch['time']} is near; the state is saved, and the job is queued again")
    hindered = _requeue()
    if hindered:
        _give_up(directory, f"{limit}, and it could not be queued again: {hindered}")
        return 1
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one element; SIGUSR1 and SIGTERM stop it at the next batch end."""
    path, array, index = argv if argv is not None else sys.argv[1:]
    folder = Path(path)

    def work() -> int:
        ids = element_of(folder, array, int(index))
        # What a step's receipt tells is the user's command, from which the study can be made again.
        sys.argv[1:] = read_json(folder / "command.json")
        say(f"job {os.environ.get('SLURM_JOB_ID', 'of no cluster')}: {', '.join(ids)}")
        try:
            return run_element(folder, ids)
        except Interrupted:
            return cut_short(folder, ids)

    with graceful_stop((signal.SIGUSR1, signal.SIGTERM), patient=True):
        return guard(work)


if __name__ == "__main__":
    sys.exit(main())
