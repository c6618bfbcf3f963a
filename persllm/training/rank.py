"""One rank of a training step: ``python -m persllm.training.rank ORDER`` (see ``launch.ranks``).

It composes nothing: all it knows is in the order and in the variables of its environment. Where ``srun`` started it,
Slurm's variables say which rank it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from persllm.execute import Context, classify
from persllm.launch.ranks import PARENT, interrupted, report, stop_file, take
from persllm.stop import Interrupted, graceful_stop, stop_asked
from persllm.store import write_json

SLURM = {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "GROUP_RANK": "SLURM_NODEID"}


def main(argv: list[str] | None = None) -> int:
    """Train as one of several ranks; the exit code tells who waits for it what came of it."""
    (path,) = argv if argv is not None else sys.argv[1:]
    ctx = take(Path(path))
    for name, of_slurm in SLURM.items():
        if name not in os.environ:
            os.environ[name] = os.environ[of_slurm]
    _end_with_parent()
    with graceful_stop((signal.SIGTERM,), patient=True):
        try:
            _train(ctx)
        except Interrupted:
            if os.environ["RANK"] == "0":
                interrupted(ctx.work).touch()
        except BaseException as error:
            _tell(ctx, error)
            return 1
    return 0


def _train(ctx: Context) -> None:
    from persllm.training import distributed
    from persllm.training.fitting import train

    distributed.init(distributed.device())
    train(
        ctx,
        stop=lambda: stop_asked() or stop_file(ctx.work).exists(),
        tell=lambda error: _tell(ctx, error),
    )
    if distributed.rank() == 0:
        write_json(ctx.work / "cost.json", ctx.cost)


def _tell(ctx: Context, error: BaseException) -> None:
    """Leave the reason of a failure where who started this rank looks, then all of it in the log."""
    rank = os.environ["RANK"]
    with contextlib.suppress(OSError):
        report(ctx.work, int(rank), classify(error))
    # On a full disk neither may go; the reason counts for more.
    with contextlib.suppress(OSError):
        ctx.say(f"rank {rank}: " + "".join(traceback.format_exception(error)))


def _end_with_parent() -> None:
    """Die when who started this rank died without a word: nobody would keep what it makes. Slurm sees to its own."""
    if PARENT not in os.environ:
        return
    parent = int(os.environ[PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    code = main()
    # Without teardown: where a rank is gone, ending the process group properly would wait for it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
