"""Start a training step's ranks, and end them together. Imports no torch.

The process that holds the step's lease starts the ranks and waits for them: on one node itself, on several by ``srun``
from inside a Slurm job. torchrun would do on one node, but its agent answers SIGTERM by ending its ranks after 30
seconds, and a large model's state takes longer to save than that.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from persllm import geometry
from persllm.errors import UserError
from persllm.execute import Context, StepFailure
from persllm.stop import Interrupted, lease_lost, stop_asked
from persllm.store import read_json, write_json

PARENT = "PERSLLM_PARENT"
"""The variable that tells a rank who started it, where that is no srun."""
PREFIX = "PERSLLM_PREFIX"
"""The variable that holds what goes before each rank's command, such as a container's."""
POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0
"""How long the other ranks may go on after one is dead: they fail by themselves when they miss it, and say where."""


def folder(work: Path) -> Path:
    """Return where the ranks find what to do, and leave their output and the reasons of their failures."""
    return work / "ranks"


def interrupted(work: Path) -> Path:
    """Return the file that the first rank leaves when it has saved the state and stopped as it was asked to."""
    return folder(work) / "interrupted"


def stop_file(work: Path) -> Path:
    """Return the file that asks the ranks to stop. A signal would do on one node; srun ends its tasks on SIGTERM."""
    return folder(work) / "stop"


def give(ctx: Context) -> None:
    """Write down what the ranks do; what an earlier attempt's ranks left is removed."""
    shutil.rmtree(folder(ctx.work), ignore_errors=True)
    folder(ctx.work).mkdir(parents=True)
    write_json(folder(ctx.work) / "order.json", json.loads(json.dumps(vars(ctx), default=str)))
    (ctx.work / "cost.json").unlink(missing_ok=True)


def take(order: Path) -> Context:
    """Return the context that an order describes."""
    told = read_json(order)
    told |= {"inputs": {role: Path(path) for role, path in told["inputs"].items()}}
    return Context(**told | {key: Path(told[key]) for key in ("directory", "outputs")})


def report(work: Path, rank: int, failure: dict[str, str]) -> None:
    """Tell why a rank failed."""
    write_json(folder(work) / f"failure-{rank}.json", failure | {"at": time.time()})


def run_ranks(ctx: Context) -> None:
    """Train a step on its strategy's ranks; its artifacts and ``ctx.cost`` are then as one process would leave them.

    Raises:
        Interrupted: a stop was asked for, and the state is saved.
        StepFailure: a rank failed or died; its class and message are the first one's.
        UserError: the ranks do not fit this machine or Slurm job.
    """
    strategy = ctx.local["strategy"]
    give(ctx)
    started = _start_by_srun(ctx) if strategy["nodes"] > 1 else _start_here(ctx)
    codes = _wait(started, stop_file(ctx.work))
    if interrupted(ctx.work).exists():
        raise Interrupted
    if any(codes):
        raise StepFailure(_reason(ctx.work, codes))
    ctx.cost |= read_json(ctx.work / "cost.json")


def _environment(strategy: dict[str, Any], address: str) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("SLURM_CPUS_PER_TASK", max(1, cores // strategy["devices"]))
    own = {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(geometry.ranks(strategy)),
        "LOCAL_WORLD_SIZE": str(strategy["devices"]),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        "PYTHONUNBUFFERED": "1",
    }
    return os.environ | own


def _command(ctx: Context) -> list[str]:
    return [sys.executable, "-m", "persllm.training.rank", str(folder(ctx.work) / "order.json")]


def _start_here(ctx: Context) -> list[subprocess.Popen[bytes]]:
    """Start the ranks as processes of this machine."""
    strategy = ctx.local["strategy"]
    environment = _environment(strategy, "127.0.0.1")
    found = []
    for rank in range(strategy["devices"]):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", PARENT: str(os.getpid())}
        # The first rank draws the progress bar, where somebody watches.
        shown = rank == 0 and sys.stderr.isatty()
        with (folder(ctx.work) / f"rank-{rank}.log").open("wb") as log:
            error: IO[bytes] | None = None if shown else log
            # A session of their own: Ctrl-C reaches this process alone, which then asks them to stop.
            found.append(
                subprocess.Popen(_command(ctx), env=environment | own, stdout=log, stderr=error, start_new_session=True)
            )
    return found


def _start_by_srun(ctx: Context) -> list[subprocess.Popen[bytes]]:
    """Start the ranks on the nodes of the Slurm job that this process runs in."""
    strategy = ctx.local["strategy"]
    nodes = os.environ.get("SLURM_JOB_NUM_NODES", os.environ.get("SLURM_NNODES"))
    if nodes != str(strategy["nodes"]):
        where = f"this Slurm job has {nodes}" if nodes else "this is no Slurm job"
        raise UserError(f"strategy.nodes is {strategy['nodes']} but {where}; send it with persllm submit launch=slurm")
    if shutil.which("srun") is None:
        raise UserError("there is no srun on the PATH of this job, by which ranks are started; see launch.prefix")
    address = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    try:
        socket.getaddrinfo(address, None)
    except OSError as error:
        raise UserError(f"the node name {address} does not resolve here, so ranks cannot meet ({error})") from error
    command = [
        "srun",
        f"--nodes={strategy['nodes']}",
        f"--ntasks={geometry.ranks(strategy)}",
        f"--ntasks-per-node={strategy['devices']}",
        f"--cpus-per-task={os.environ.get('SLURM_CPUS_PER_TASK', '1')}",
        "--kill-on-bad-exit=1",
        "--export=ALL",
        f"--output={folder(ctx.work)}/rank-%t.log",
        *shlex.split(os.environ.get(PREFIX, "")),
        *_command(ctx),
    ]
    environment = _environment(strategy, address)
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK", PARENT):
        # Each task reads its own from Slurm.
        environment.pop(name, None)
    with (folder(ctx.work) / "srun.log").open("wb") as log:
        return [subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)]


def _wait(processes: list[subprocess.Popen[bytes]], stop: Path) -> list[int]:
    """Return the exit codes, once all have ended: by themselves, or ended because one failed.

    What was ended here counts as 0: it is no reason.
    """
    deadline: float | None = None
    ended: set[int] = set()
    try:
        while any(p.poll() is None for p in processes):
            if lease_lost():
                # What they would save, another process's ranks have moved on from.
                raise Interrupted
            if stop_asked():
                stop.touch()
            if deadline is None and any(p.poll() for p in processes):
                deadline = time.monotonic() + GRACE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                ended |= {i for i, p in enumerate(processes) if p.poll() is None}
                _kill(processes)
            time.sleep(POLL_SECONDS)
    finally:
        _kill(processes)
    return [0 if i in ended else p.wait() for i, p in enumerate(processes)]


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()


def _killed_under_srun(work: Path) -> list[str]:
    """Return who was killed by what, as srun tells it; the first one first."""
    log = folder(work) / "srun.log"
    text = log.read_text(errors="replace") if log.is_file() else ""
    found = re.findall(r"error: (\S+): tasks? (\d+)[\d,-]*: (Killed|Segmentation fault|Out Of Memory|Bus error)", text)
    return [f"rank {rank} on node {node} was killed ({what})" for node, rank, what in found]


def _reason(work: Path, codes: list[int]) -> dict[str, str]:
    """Return why the ranks failed. One fails; the others only miss it, and are ended for it or abort."""
    failures = [
        (failure["at"], int(path.stem.rpartition("-")[2]), failure)
        for path in folder(work).glob("failure-*.json")
        if isinstance(failure := read_json(path), dict)
    ]
    told = [
        {**{k: failure[k] for k in ("class", "hint")}, "message": f"rank {rank}: {failure['message']}"}
        for _, rank, failure in sorted(failures, key=lambda entry: entry[:2])
    ]
    # What a rank knows the class of is a cause; to lose another rank is of class code.
    for failure in told:
        if failure["class"] != "code":
            return failure
    killed = [f"rank {rank} was killed ({signal.Signals(-code).name})" for rank, code in enumerate(codes) if code < 0]
    killed = [text for text in killed if signal.SIGABRT.name not in text] + _killed_under_srun(work)
    if killed:
        hint = "the kernel kills when memory runs out; `persllm retry` goes on from the last saved state"
        return {"class": "rank_killed", "message": killed[0], "hint": hint}
    if told:
        return told[0]
    lines = [line for log in sorted(folder(work).glob("*.log")) for line in _lines(log)]
    message = f"a rank ended with exit code {next(filter(None, codes))}: {lines[-1] if lines else 'it said nothing'}"
    return {"class": "code", "message": message[:500], "hint": f"see {folder(work)}; `persllm retry` tries again"}


def _lines(log: Path) -> list[str]:
    return [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
