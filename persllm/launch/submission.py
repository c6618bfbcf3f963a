"""The record of a submission, ``studies/NAME/slurm/N/`` under outputs: what was sent, as which jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm.errors import UserError
from persllm.finish import StudyRecord
from persllm.launch.arrays import Array
from persllm.store import StepDir, read_json, require_writable, write_json


@dataclass(frozen=True)
class Place:
    """The element of a job array that runs a step."""

    folder: Path
    """Of the submission."""
    array: str
    job: str
    index: int
    user: str
    """The numeric id of who sent it."""
    since: str
    """When, as 2026-11-23T12:00:00Z."""

    @property
    def element(self) -> str:
        """What Slurm calls the element: ``JOB_INDEX``."""
        return f"{self.job}_{self.index}"

    def failed(self, directory: StepDir) -> bool:
        """Return whether its step's failure is of this submission, and not what it was sent to mend."""
        try:
            return _utc((directory.path / "FAILED.json").stat().st_mtime) > self.since
        except FileNotFoundError:
            return False

    @property
    def log(self) -> Path:
        """Where the job's own output goes."""
        return self.folder / "logs" / f"{self.element}.log"


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@contextlib.contextmanager
def alone(outputs: Path) -> Iterator[None]:
    """Keep others from submitting into the same outputs: what one sends, the next must see. It ends with its process.

    Raises:
        UserError: another submit is under way.
    """
    require_writable(outputs)
    with (outputs / ".submitting").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"outputs={outputs}: another submit is under way there; run the command again when it has ended"
            ) from error
        yield


def ending_of(folder: str) -> str:
    """Return the element that compares and reports for a study's folder, in the place of a step's id."""
    return f"studies/{folder}"


def next_folder(outputs: Path, study: str) -> Path:
    """Return where the next submission of a study will be recorded; makes nothing."""
    root = (outputs / "studies" / study / "slurm").resolve()
    taken = [int(path.name) for path in root.glob("[0-9]*") if path.name.isdigit()]
    return root / str(max(taken, default=0) + 1)


def begin(folder: Path, study: StudyRecord, launch: dict[str, Any], texts: list[tuple[str, str]]) -> None:
    """Make a submission's folder with all that its jobs read.

    Args:
        folder: from ``next_folder``.
        study: what the last job compares.
        launch: the section of the configuration, for the jobs' messages and limits.
        texts: each array's name and batch script.

    Raises:
        FileExistsError: another submission took it.
    """
    folder.mkdir(parents=True)
    (folder / "logs").mkdir()
    write_json(folder / "study.json", dataclasses.asdict(study))
    write_json(folder / "launch.json", launch)
    write_json(folder / "command.json", sys.argv[1:])
    for name, text in texts:
        (folder / f"{name}.sh").write_text(text, encoding="utf-8")


def note(folder: Path, arrays: list[Array], jobs: dict[str, str]) -> None:
    """Write which arrays were sent as which jobs; called after each.

    A submit that is killed forgets at most the one that Slurm had just taken. Sent twice, its steps still run once.
    """
    # When the first was sent: its jobs may have ended before the last is.
    since = (read_json(folder / "arrays.json") or {}).get("since") or _utc(time.time())
    sent = [dataclasses.asdict(array) | {"job": jobs.get(array.name)} for array in arrays]
    write_json(folder / "arrays.json", {"since": since, "user": str(os.getuid()), "arrays": sent})


def study_of(folder: Path) -> StudyRecord:
    """Return the study that a submission belongs to."""
    return StudyRecord(**read_json(folder / "study.json"))


def element_of(folder: Path, array: str, index: int) -> list[str]:
    """Return the ids that an element of a submission runs."""
    (found,) = (entry for entry in read_json(folder / "arrays.json")["arrays"] if entry["name"] == array)
    return found["elements"][index]


def places(outputs: Path, wanted: Iterable[str]) -> dict[str, Place]:
    """Return where each of some ids was sent last, by any study: steps are shared.

    Args:
        outputs: where step directories live.
        wanted: ids of steps, and ``ending_of`` studies.
    """
    records = []
    for file in outputs.glob("studies/*/slurm/*/arrays.json"):
        record = read_json(file)
        if isinstance(record, dict):
            records.append((record["since"], int(file.parent.name), file.parent, record))
    ids, found = set(wanted), {}
    for since, _, folder, record in sorted(records, key=lambda entry: entry[:2]):
        for array in record["arrays"]:
            if array["job"] is None:
                continue
            for index, element in enumerate(array["elements"]):
                place = Place(folder, array["name"], array["job"], index, record["user"], since)
                found |= dict.fromkeys(ids.intersection(element), place)
    return found
