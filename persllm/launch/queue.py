"""What Slurm says of the elements that were sent: one squeue and one sacct, with little patience."""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from persllm.errors import UserError
from persllm.launch import EXIT_BUSY, EXIT_INPUTS
from persllm.launch.slurm import ask
from persllm.launch.submission import Place

PATIENCE_SECONDS = 5.0
ENDED = ("cancelled", "timeout", "out_of_memory", "node_fail", "preempted")
"""How Slurm ends a step that could not say so itself; ``retry`` takes each for a failure."""
_WORDS = {
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "out_of_memory",
    "NODE_FAIL": "node_fail",
    "BOOT_FAIL": "node_fail",
    "PREEMPTED": "preempted",
}


@dataclass(frozen=True)
class Seen:
    """An element as Slurm sees it."""

    live: bool
    """Whether squeue has it: pending, running, or something in between."""
    state: str
    """Slurm's own word, such as PENDING or OUT_OF_MEMORY."""
    where: str = ""
    """The nodes."""
    told: str = ""
    """The reason why it is pending, who cancelled it, or its exit code."""


@dataclass(frozen=True)
class Answers:
    """What Slurm said, by element."""

    seen: dict[str, Seen]
    silent: str = ""
    """Why nothing, or not all, is known; empty where Slurm answered."""


def read_squeue(text: str) -> dict[str, Seen]:
    """Read ``squeue -h -r -o '%i|%T|%N|%r'``."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 3]
    return {id: Seen(True, state, where, "" if reason == "None" else reason) for id, state, where, reason in rows}


def read_sacct(text: str) -> dict[str, Seen]:
    """Read ``sacct -n -X -P -o JobID,State,ExitCode,NodeList``."""
    found = {}
    for line in text.splitlines():
        if line.count("|") != 3:
            continue
        id, state, code, where = line.split("|")
        word, _, by = state.partition(" by ")
        seen = Seen(False, word.split()[0], "" if where == "None assigned" else where, _name(by) if by else code)
        found |= dict.fromkeys(elements(id), seen)
    return found


def elements(id: str) -> list[str]:
    """Return the elements that an id of sacct stands for; those never begun share one, such as ``7_[2-4,9%3]``."""
    job, bracket, rest = id.partition("_[")
    if not bracket:
        return [id]
    found = []
    for part in rest.rstrip("]").split("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found += [f"{job}_{index}" for index in range(int(first), int(last or first) + 1)]
    return found


def _name(uid: str) -> str:
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except (KeyError, ValueError):
        return f"user {uid}"


def ask_queue(places: Collection[Place], ended: bool = True) -> Answers:
    """Ask Slurm about elements.

    Args:
        places: the elements.
        ended: ask sacct, too, how those ended that squeue does not have any more.
    """
    if not places:
        return Answers({})
    try:
        users = ",".join(sorted({place.user for place in places}))
        live = read_squeue(ask("squeue", "-h", "-r", "-u", users, "-o", "%i|%T|%N|%r", seconds=PATIENCE_SECONDS))
    except (UserError, OSError, subprocess.SubprocessError) as error:
        return Answers({}, f"Slurm does not answer ({error}); states are from the step directories")
    gone = sorted({place.job for place in places if place.element not in live}, key=int)
    if not ended or not gone:
        return Answers(live)
    words = ("sacct", "-n", "-X", "-P", "-j", ",".join(gone), "-o", "JobID,State,ExitCode,NodeList")
    try:
        return Answers(read_sacct(ask(*words, seconds=PATIENCE_SECONDS)) | live)
    except (UserError, OSError, subprocess.SubprocessError) as error:
        return Answers(live, f"Slurm's accounting does not answer ({error}); how jobs ended is not known")


def standing(place: Place, seen: Seen) -> tuple[str, str]:
    """Return an element's state and what is known of it, as ``status`` tells them.

    Args:
        place: where its step was sent.
        seen: from ``ask_queue``.
    """
    if seen.live:
        if seen.state == "PENDING":
            return "queued", f"job {place.element}: {seen.told}"
        return "running", f"job {place.element} on {seen.where or 'no node yet'}"
    code = seen.told.split(":")[0]
    word = _WORDS.get(seen.state)
    if word == "cancelled":
        return word, f"job {place.element} by {seen.told}" if not seen.told[:1].isdigit() else f"job {place.element}"
    if word is not None:
        return word, f"job {place.element} on {seen.where}"
    if seen.state == "COMPLETED" or code in (str(EXIT_INPUTS), str(EXIT_BUSY)):
        return "to run", {str(EXIT_INPUTS): "an input was missing in its turn"}.get(code, "")
    exit_code, _, number = seen.told.partition(":")
    how = f"was killed (signal {number})" if number not in ("", "0") else f"ended (exit code {exit_code})"
    return "failed", f"job {place.element} {how} and left no reason; its log: {place.log}"
