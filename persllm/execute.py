"""Run steps: one from its frozen config, or a plan's, each claimed by a lease, keeping what succeeds.

``python -m persllm.execute outputs/STEP/LABEL-HASH`` runs the one step whose directory is given.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persllm.errors import UserError
from persllm.finish import StudyRecord, finish, record
from persllm.identity import fingerprint
from persllm.memory import peak_bytes, release_freed_memory, reset_peak
from persllm.nodes import Step
from persllm.plan import Plan
from persllm.steps import VERSIONS
from persllm.stop import Interrupted, graceful_stop, lease_lost, reason, stop_asked, stop_when, stopped_by
from persllm.store import Lease, LeaseLost, StepDir, read_json, write_json

POLL_SECONDS = 1.0
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The disk, or what one user may have of it."""


class StepFailure(Exception):
    """A failure that another process has classified already: class, message and hint."""

    def __init__(self, failure: dict[str, str]) -> None:
        super().__init__(failure["message"])
        self.failure = failure


@dataclass
class Context:
    """What a step sees: its config, its inputs' artifacts, and where to write."""

    id: str
    """The step's folder, relative to outputs/."""
    fingerprint: str
    config: dict[str, Any]
    local: dict[str, Any]
    inputs: dict[str, Path]
    """Each role's artifacts folder."""
    input_ids: dict[str, str]
    directory: Path
    outputs: Path
    track: dict[str, Any] = field(default_factory=dict)
    """W&B: mode, project, entity, group."""
    cost: dict[str, Any] = field(default_factory=dict)
    """What the step spent (tokens, seconds); goes into run.json, outside the artifacts."""

    @property
    def out(self) -> Path:
        """Where artifacts are written before they are published."""
        return self.directory / "work" / "artifacts"

    @property
    def work(self) -> Path:
        """Scratch that survives a killed attempt."""
        return self.directory / "work"

    def log(self, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        with (self.directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def say(self, text: str) -> None:
        """Append one line to log.txt."""
        with (self.directory / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n")

    def check_stop(self) -> None:
        """Raise Interrupted where a stop was asked for."""
        if stop_asked():
            raise Interrupted


@functools.cache
def _git() -> dict[str, Any]:
    """Return the commit and whether the tree differed from it, as they were when this process first asked."""

    def ask(*args: str) -> str | None:
        try:
            root = Path(__file__).parent
            return subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    status = ask("status", "--porcelain")
    return {"commit": ask("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def run_record(started: float, restarts: int) -> dict[str, Any]:
    """Return what run.json holds: everything about this execution that is not the step's meaning."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("persllm", "torch", "transformers", "peft", "pytorch-lightning", "deepspeed", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "git": _git(),
        "command": sys.argv[1:],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "peak_memory_bytes": peak_bytes(),
        "restarts": restarts,
    }


def classify(error: BaseException) -> dict[str, str]:
    """Return a failure's class, message and hint."""
    if isinstance(error, StepFailure):
        return error.failure
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}".strip()
    if isinstance(error, UserError):
        kind, hint = "config", "mend the input named above, then run the same command again"
    elif isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        kind = "out_of_memory"
        hint = "a train step: `persllm retry` with half the strategy.micro_batch; another: `persllm run` with less "
        hint += "generate.batch_size"
    elif getattr(error, "errno", None) in FULL or any(os.strerror(number) in text for number in FULL):
        kind, hint = "disk_full", "free some disk space, then run the same command again; nothing finished is lost"
    elif isinstance(error, FloatingPointError):
        kind, hint = "diverged", "lower method.tune.sft.learning_rate or method.tune.dpo.learning_rate"
    else:
        kind, hint = "code", "see log.txt in the step's folder; `persllm retry` tries again"
    return {"class": kind, "message": text.split("\n")[0][:500], "hint": hint}


def run_step(step_dir: StepDir, lease: Lease, context: Context) -> bool:
    """Run a claimed step to DONE or FAILED; return whether it is done. Lost to another process, it is neither.

    Raises:
        Interrupted: a stop was asked for; the lease is given back and the work kept.
    """
    with stop_when(lease.lost):
        return _run_step(step_dir, lease, context)


def _run_step(step_dir: StepDir, lease: Lease, context: Context) -> bool:
    started = time.time()
    context.work.mkdir(exist_ok=True)
    # A killed attempt may have left half-written files there; none of them may be published.
    shutil.rmtree(context.out, ignore_errors=True)
    context.out.mkdir()
    release_freed_memory()
    reset_peak()
    context.say(f"start (restart {lease.restarts})")
    try:
        module = importlib.import_module(f"persllm.steps.{context.id.split('/')[0]}")
        tracking = importlib.import_module("persllm.tracking")
        module.run(context)
        lease.publish(context.out, run_record(started, lease.restarts) | {"cost": context.cost})
    except (Interrupted, KeyboardInterrupt):
        context.say(f"interrupted: {reason()}")
        lease.interrupt(reason())
        if lease_lost() and stopped_by() is None:
            return False
        raise
    except LeaseLost as error:
        context.say(str(error))
        return False
    except Exception as error:
        lease.fail(classify(error), run_record(started, lease.restarts))
        # On a full disk this fails as well, and the reason is told already.
        with contextlib.suppress(OSError):
            context.say("".join(traceback.format_exception(error)))
        return False
    try:
        tracking.mirror(context)
    except Exception as error:
        # The mirror is a convenience: what it shows is already published.
        context.say(f"the W&B mirror failed: {error}")
    context.say("done")
    return True


def context_for(step: Step, outputs: Path, track: dict[str, Any]) -> Context:
    """Build a planned step's context."""
    return Context(
        id=step.id,
        fingerprint=step.fingerprint,
        config=step.config,
        local=step.local,
        inputs={role: s.directory(outputs).artifacts for role, s in step.inputs.items()},
        input_ids={role: s.id for role, s in step.inputs.items()},
        directory=step.directory(outputs).path,
        outputs=outputs,
        track=track,
    )


@dataclass
class Outcome:
    """What became of a plan's steps."""

    done: list[Step] = field(default_factory=list)
    cached: list[Step] = field(default_factory=list)
    failed: list[Step] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)
    """Steps that wait for a failed one."""
    study: Path | None = None


Tell = Callable[[str, Step, float], None]


def _attempt(step: Step, outputs: Path, track: dict[str, Any]) -> str:
    """Return ``done``, ``failed``, ``busy`` (held by a living owner) or ``cached``."""
    directory = step.directory(outputs)
    lease = directory.claim(step.meaning(), step.input_record())
    if lease is None:
        return "cached" if directory.is_done() else "busy"
    return "done" if run_step(directory, lease, context_for(step, outputs, track)) else "failed"


def run_steps(steps: list[Step], outputs: Path, track: dict[str, Any], tell: Tell, outcome: Outcome) -> None:
    """Run steps in order; what another process holds is waited for, what depends on a failure is skipped."""
    waiting = list(steps)
    bad: set[str] = set()
    while waiting:
        busy = []
        for step in waiting:
            if any(s.id in bad for s in step.inputs.values()):
                bad.add(step.id)
                outcome.skipped.append(step)
                tell("skipped", step, 0.0)
                continue
            if any(not s.directory(outputs).is_done() for s in step.inputs.values()):
                busy.append(step)
                continue
            if step.directory(outputs).is_done():
                outcome.cached.append(step)
                tell("cached", step, 0.0)
                continue
            if stop_asked():
                raise Interrupted
            tell("start", step, 0.0)
            began = time.time()
            result = _attempt(step, outputs, track)
            if result == "busy":
                busy.append(step)
                continue
            {"done": outcome.done, "failed": outcome.failed, "cached": outcome.cached}[result].append(step)
            if result == "failed":
                bad.add(step.id)
            tell(result, step, time.time() - began)
        if len(busy) == len(waiting):
            if stop_asked():
                raise Interrupted
            tell("waiting", busy[0], 0.0)
            time.sleep(POLL_SECONDS)
        waiting = busy


def run_plan(plan: Plan, outputs: Path, tell: Tell) -> Outcome:
    """Run a study: every step, then compare and report over what succeeded, then the study's folder."""
    outcome = Outcome()
    study = record(plan)
    run_steps(plan.steps, outputs, study.track, tell, outcome)
    conclude(study, outputs, tell, outcome)
    return outcome


def conclude(study: StudyRecord, outputs: Path, tell: Tell, outcome: Outcome) -> None:
    """Compare and report over the cells that are whole on disk, and fill the study's folder."""
    compare, report = finish(study, outputs)
    if not compare.config["cells"]:
        return
    run_steps([compare, report], outputs, study.track, tell, outcome)
    if report.directory(outputs).is_done():
        outcome.study = collect(study, compare, report, outputs)


def collect(study: StudyRecord, compare: Step, report: Step, outputs: Path) -> Path:
    """Copy a study's tables and pages into its folder, with the list of steps behind them."""
    folder = outputs / "studies" / study.folder
    folder.mkdir(parents=True, exist_ok=True)
    for step in (compare, report):
        for file in step.directory(outputs).artifacts.iterdir():
            aside = folder / f".{file.name}.aside"
            aside.write_bytes(file.read_bytes())
            aside.replace(folder / file.name)
    steps = study.steps | {step.id: step.fingerprint for step in (compare, report)}
    write_json(folder / "study.json", {"study": study.study, "fingerprint": study.fingerprint, "steps": steps})
    return folder


def frozen_context(directory: StepDir, track: dict[str, Any]) -> Context:
    """Build a step's context from its directory alone: what a job of a cluster knows.

    Raises:
        UserError: config.json or inputs.json is not there, or the step's code has changed since.
    """
    meaning, inputs = read_json(directory.path / "config.json"), read_json(directory.path / "inputs.json")
    if not isinstance(meaning, dict) or not isinstance(inputs, dict):
        raise UserError(f"{directory.path}: no step directory (config.json and inputs.json expected)")
    if meaning["version"] != VERSIONS[meaning["step"]]:
        raise UserError(
            f"{directory.path}: frozen with version {meaning['version']} of the step's code, which is now "
            f"{VERSIONS[meaning['step']]}; submit the study again"
        )
    outputs = directory.path.parent.parent
    known = {role: entry["fingerprint"] for role, entry in inputs.items()}
    return Context(
        id=f"{directory.path.parent.name}/{directory.path.name}",
        fingerprint=fingerprint(meaning["step"], meaning["version"], meaning["config"], known),
        config=meaning["config"],
        local=meaning["local"],
        inputs={role: outputs / entry["id"] / "artifacts" for role, entry in inputs.items()},
        input_ids={role: entry["id"] for role, entry in inputs.items()},
        directory=directory.path,
        outputs=outputs,
        track=track,
    )


def main(argv: list[str] | None = None) -> int:
    """Run one step from its directory."""
    (path,) = argv if argv is not None else sys.argv[1:]
    directory = StepDir(Path(path).resolve())
    try:
        context = frozen_context(directory, {"mode": "disabled"})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    meaning, inputs = read_json(directory.path / "config.json"), read_json(directory.path / "inputs.json")
    lease = directory.claim(meaning, inputs)
    if lease is None:
        print(f"{path}: {directory.state()}")
        return 0 if directory.is_done() else 3
    with graceful_stop():
        return 0 if run_step(directory, lease, context) else 1


if __name__ == "__main__":
    sys.exit(main())
