"""Batch scripts, and sending them with sbatch.

Ours rather than submitit's, with which a job whose function raises was seen to end as COMPLETED 0:0, so that sacct,
mail and ``--dependency=afterok`` believe that it worked; one killed job hid the results of the others from the process
that waits, which must outlive every job; and after a time limit only rank 0 was requeued. Here a job's exit code is its
step's, results are the steps' directories, and nothing stays behind on the login node.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from persllm.compose import slug
from persllm.errors import UserError, did_you_mean
from persllm.launch.arrays import Array
from persllm.launch.ranks import PREFIX
from persllm.schema import Launch, LaunchKind, Strategy

ANSWER_SECONDS = 60.0
"""How long sbatch and its kin may take while submitting."""


def ask(*words: str, seconds: float = ANSWER_SECONDS) -> str:
    """Return what one of Slurm's commands prints.

    Raises:
        UserError: it is not there, takes too long, or refuses; its own sentence is passed on.
    """
    # Inside another job, that job's own SLURM_ settings would shape the new ones.
    env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, env=env)
    except FileNotFoundError as error:
        raise UserError(
            f"{words[0]} is not on PATH; submit from a machine of the cluster (perhaps after `module load slurm`), or "
            "run the study here with `persllm run launch=local`"
        ) from error
    except subprocess.TimeoutExpired as error:
        said = " ".join((error.stderr or b"").decode(errors="replace").split())
        told = f" ({said})" if said else ""
        raise UserError(f"{words[0]}: Slurm did not answer within {seconds:g} s{told}; try again later") from error
    if done.returncode:
        raise UserError(_refusal(words[0], done.stderr) or f"{words[0]}: exit code {done.returncode}")
    return done.stdout


def _refusal(command: str, text: str) -> str:
    """Return what a command of Slurm's said against it, as one sentence."""
    lines = [line.split("error: ")[-1].split("fatal: ")[-1].strip() for line in text.splitlines() if line.strip()]
    if "configuration source" in text:
        return f"Slurm does not answer ({lines[-1]}); is SLURM_CONF set as on the cluster's login nodes?"
    return f"{command}: {'; '.join(lines)}" if lines else ""


def require_kind(launch: Launch) -> None:
    """Raise a UserError where steps run here and not on a cluster."""
    if launch.kind is not LaunchKind.slurm:
        raise UserError(
            f"launch.kind is {launch.kind.value}, and batch scripts are for Slurm: add launch=slurm (or "
            "launch=slurm_cpu for a cluster without GPUs), or run the study here with `persllm run`"
        )


def seconds(time: str) -> int:
    """Return a time limit, ``HH:MM:SS`` or ``D-HH:MM:SS``, in seconds."""
    days, _, clock = time.rpartition("-")
    hours, minutes, rest = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def require(launch: Launch) -> None:
    """Raise a UserError where these settings cannot be sent to Slurm from here."""
    require_kind(launch)
    if launch.warning_seconds >= seconds(launch.time):
        raise UserError(
            f"launch.warning_seconds is {launch.warning_seconds}, which leaves no time to work in "
            f"launch.time={launch.time}; expected a longer time or a later warning"
        )
    if shutil.which("sbatch") is None:
        ask("sbatch", "--version")
    known = list(dict.fromkeys(ask("sinfo", "-h", "-o", "%R").split()))
    for key in ("partition", "cpu_partition"):
        wanted = getattr(launch, key)
        for name in wanted.split(",") if wanted else ():
            if name not in known:
                raise UserError(
                    f"launch.{key} is {name!r}, which this cluster does not have{did_you_mean(name, known)} "
                    f"(it has {', '.join(known)})"
                )


def longest_array() -> int:
    """Return how many elements this cluster allows in one array."""
    for line in ask("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize":
            return max(1, int(value))
    return 1001


def _options(array: Array, study: str, launch: Launch, strategy: Strategy, folder: Path) -> list[str]:
    """Return the options of sbatch, those of ``launch.sbatch`` last so that they win."""
    limit = f"%{launch.running}" if launch.running else ""
    nodes, ranks = (strategy.nodes, strategy.devices) if array.shape == "train" else (1, 1)
    partition = (launch.cpu_partition if array.shape == "prepare" else None) or launch.partition
    log = str(folder / "logs").replace("%", "%%") + "/%A_%a.log"
    found = [
        f"--job-name=persllm-{slug(study)}-{array.name}",
        f"--array=0-{len(array.elements) - 1}{limit}",
        f"--output={shlex.quote(log)}",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{launch.warning_seconds}",
        f"--time={launch.time}",
        f"--nodes={nodes}",
        f"--ntasks-per-node={ranks}",
        f"--cpus-per-task={launch.cpus}",
    ]
    if launch.gpus and array.shape != "prepare":
        found.append(f"--gpus-per-node={ranks}")
    given = {"mem": launch.memory, "partition": partition, "account": launch.account, "constraint": launch.constraint}
    return found + [f"--{key}={shlex.quote(value)}" for key, value in given.items() if value] + launch.sbatch


def script(array: Array, study: str, launch: Launch, strategy: Strategy, folder: Path) -> str:
    """Return an array's batch script.

    Args:
        array: its elements.
        study: the study's name.
        launch: resources, and what goes around the command.
        strategy: the geometry of training.
        folder: of the submission, absolute.
    """
    waits = ", ".join([*array.after, *(f"job {job}" for job in array.behind)])
    threads = f"export OMP_NUM_THREADS={launch.threads} MKL_NUM_THREADS={launch.threads}"
    command = [sys.executable, "-m", "persllm.launch.job", str(folder), array.name]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in _options(array, study, launch, strategy, folder)),
        *([f"# Sent with --dependency=afterany on: {waits}."] if waits else []),
        "# Until Python listens, the warning before the time limit would end the job.",
        "trap '' USR1",
        *launch.setup,
        *([threads] if launch.threads else []),
        # For the ranks of several nodes, which srun starts outside of what the job itself runs in.
        *([f"export {PREFIX}={shlex.quote(launch.prefix)}"] if launch.prefix else []),
        f"cd {shlex.quote(str(Path.cwd()))} || exit 2",
        # Without exec, the shell would get the signals and Python would not.
        " ".join(filter(None, ["exec", launch.prefix, shlex.join(command), '"$SLURM_ARRAY_TASK_ID"'])),
    ]
    return "\n".join(lines) + "\n"


def send(arrays: list[Array], folder: Path, sent: Callable[[dict[str, str]], Any]) -> dict[str, str]:
    """Send each array's script, after the arrays that it waits for.

    Args:
        arrays: in an order in which each comes after those that it waits for.
        folder: where their scripts lie.
        sent: told the job ids so far after each array.

    Returns:
        The job id of each array's name.

    Raises:
        UserError: sbatch refused one; what was sent before it goes on.
    """
    jobs: dict[str, str] = {}
    for array in arrays:
        waits = [*(jobs[name] for name in array.after), *array.behind]
        depends = [f"--dependency=afterany:{':'.join(waits)}"] if waits else []
        try:
            told = ask("sbatch", "--parsable", *depends, str(folder / f"{array.name}.sh"))
        except UserError as error:
            before = f", while {', '.join(jobs)} went before it and will run" if jobs else ""
            raise UserError(f"{error} (refused: {array.name}{before}); the same command sends what is left") from error
        jobs[array.name] = told.strip().split(";")[0]
        sent(jobs)
    return jobs
