"""The step directory: claimed by a lease, published whole, verified by reading back."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm.errors import UserError
from persllm.identity import file_sha256

BEAT_SECONDS = 5.0
STALE_BEATS = 3


class LeaseLost(RuntimeError):
    """Another process took the step over; nothing of ours may be published."""


def write_atomic(path: Path, data: str | bytes, sync: bool = True) -> None:
    """Write a file aside, sync it (unless it is easily written again) and rename it into place."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with aside.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    aside.replace(path)


def _as_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_atomic(path, _as_text(value))


def read_json(path: Path) -> Any:
    """Read JSON, or None where the file is missing or torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None


def require_writable(outputs: Path) -> None:
    """Raise a UserError where files cannot be written under ``outputs``."""
    probe = outputs / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"outputs={outputs}: cannot write there ({error.strerror}); choose another folder with outputs=PATH"
        ) from error


def _process_start(pid: int) -> str | None:
    """Return a text that tells a process from a later one with the same pid, or None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return "unknown"
    return None if fields[0] == "Z" else fields[19]


@dataclass(frozen=True)
class StepDir:
    """One step's directory. ``state`` is one of absent, running, stale, failed, done."""

    path: Path

    @property
    def artifacts(self) -> Path:
        """Where a finished step's files lie."""
        return self.path / "artifacts"

    @property
    def work(self) -> Path:
        """Scratch that survives a killed attempt."""
        return self.path / "work"

    def is_done(self) -> bool:
        """Return whether the step published, and its files have the sizes that the manifest tells."""
        manifest = read_json(self.path / "manifest.json")
        if not (self.path / "DONE").exists() or not isinstance(manifest, dict):
            return False
        for name, entry in manifest.items():
            file = self.artifacts / name
            if not file.is_file() or file.stat().st_size != entry["bytes"]:
                return False
        return True

    def corrupt_files(self) -> list[str]:
        """Return the names of artifacts whose bytes differ from the manifest."""
        manifest = read_json(self.path / "manifest.json") or {}
        return [
            name
            for name, entry in manifest.items()
            if not (self.artifacts / name).is_file() or file_sha256(self.artifacts / name) != entry["sha256"]
        ]

    def failure(self) -> dict[str, Any] | None:
        """Return what FAILED.json tells: class, message, hint."""
        return read_json(self.path / "FAILED.json")

    def owner(self) -> dict[str, Any] | None:
        """Return the lease, or None."""
        return read_json(self.path / "lease.json")

    def state(self) -> str:
        """Return the step's state as its files tell it."""
        if self.is_done():
            return "done"
        lease = self.owner()
        if lease is not None:
            return "running" if lease_alive(lease) else "stale"
        return "failed" if self.failure() is not None else "absent"

    def interruptions(self) -> list[dict[str, Any]]:
        """Return what cut earlier attempts short, oldest first: time, reason, host."""
        try:
            lines = (self.path / "interruptions.jsonl").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [json.loads(line) for line in lines]

    def interrupted(self, reason: str, host: str | None) -> None:
        """Note that an attempt was cut short; the lock must be held."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lines = [*self.interruptions(), {"time": now, "reason": reason, "host": host}]
        write_atomic(self.path / "interruptions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def freeze(self, config: dict[str, Any], inputs: dict[str, Any]) -> bool:
        """Write down what the step means, for a process that knows only this directory.

        Returns:
            False, with nothing touched, where the step is done or held by a living owner.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            held = self.owner()
            if self.is_done() or (held is not None and lease_alive(held)):
                return False
            for name, value in (("config.json", config), ("inputs.json", inputs)):
                if read_json(self.path / name) != value:
                    # Thousands at once: syncing each would take minutes on a busy disk.
                    write_atomic(self.path / name, _as_text(value), sync=False)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def claim(self, config: dict[str, Any], inputs: dict[str, Any]) -> Lease | None:
        """Take the lease, or return None where the step is done or held by a living owner.

        A stale lease is taken over and counted as a restart; a failed step is tried again.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.is_done():
                return None
            held = self.owner()
            if held is not None and lease_alive(held):
                return None
            write_json(self.path / "config.json", config)
            write_json(self.path / "inputs.json", inputs)
            if (self.path / "DONE").exists():
                # Made anew, not gone on with.
                (self.path / "interruptions.jsonl").unlink(missing_ok=True)
            elif held is not None:
                self.interrupted("killed", held.get("host"))
            known = 0 if held is None else held.get("restarts", 0) + 1
            lease = Lease(self, restarts=max(known, len(self.interruptions())))
            lease.beat()
            for leftover in ("DONE", "FAILED.json", "manifest.json"):
                (self.path / leftover).unlink(missing_ok=True)
            shutil.rmtree(self.artifacts, ignore_errors=True)
        lease.start()
        return lease


def lease_alive(lease: dict[str, Any]) -> bool:
    """Return whether a lease's owner lives: by its pid on this host, else by its heartbeat."""
    if lease.get("host") == socket.gethostname():
        return _process_start(int(lease.get("pid", 0))) == lease.get("started")
    return time.time() - float(lease.get("beat", 0)) < STALE_BEATS * BEAT_SECONDS


def _manifest(made: Path) -> dict[str, dict[str, Any]]:
    """Sync the files of a folder and read them back; return the size and sha256 of each."""
    manifest = {}
    for file in sorted(p for p in made.rglob("*") if p.is_file()):
        digest = file_sha256(file)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
        file.chmod(0o644)
        if file_sha256(file) != digest:
            raise OSError(f"{file} did not read back as written")
        manifest[file.relative_to(made).as_posix()] = {"bytes": file.stat().st_size, "sha256": digest}
    return manifest


class Lease:
    """The right to run one step, kept alive by a heartbeat thread."""

    def __init__(self, step: StepDir, restarts: int) -> None:
        self.step = step
        self.restarts = restarts
        self.id = uuid.uuid4().hex
        self.lost = threading.Event()
        """Set where the heartbeat finds that another process took the step over."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def beat(self) -> None:
        """Write the lease with the present time."""
        lease = {
            "id": self.id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _process_start(os.getpid()),
            "beat": time.time(),
            "restarts": self.restarts,
        }
        write_json(self.step.path / "lease.json", lease)

    def start(self) -> None:
        """Start the heartbeat."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                with self.step._locked():
                    # Given back meanwhile, it is nobody's, which is no loss.
                    if self._stop.is_set():
                        return
                    if not self._ours():
                        self.lost.set()
                        return
                    self.beat()
            except OSError:
                continue

    def _ours(self) -> bool:
        held = self.step.owner()
        return held is not None and held.get("id") == self.id

    def require(self) -> None:
        """Raise LeaseLost where another process holds the lease."""
        if not self._ours():
            raise LeaseLost(f"{self.step.path}: another process took this step over")

    def publish(self, made: Path, run: dict[str, Any]) -> None:
        """Move a folder of finished files into place and mark the step done.

        Each file is synced and read back against its sha256 before the rename; DONE is written last.

        Raises:
            LeaseLost: another process holds the lease.
            OSError: a file did not read back as written.
        """
        # Without the lock, which the heartbeat needs, too: large models take minutes.
        manifest = _manifest(made)
        with self.step._locked():
            self.require()
            shutil.rmtree(self.step.artifacts, ignore_errors=True)
            made.replace(self.step.artifacts)
            write_json(self.step.path / "manifest.json", manifest)
            write_json(self.step.path / "run.json", run)
            write_atomic(self.step.path / "DONE", "")
        self.release()
        shutil.rmtree(self.step.work, ignore_errors=True)

    def fail(self, failure: dict[str, Any], run: dict[str, Any]) -> None:
        """Keep what went wrong, and the work of the attempt."""
        with self.step._locked():
            if not self._ours():
                return
            # The reason first: on a disk that is nearly full, it may be all that there is room for.
            write_json(self.step.path / "FAILED.json", failure)
            write_json(self.step.path / "run.json", run)
        self.release()

    def interrupt(self, reason: str) -> None:
        """Note why this attempt ends early and give the lease back; the work is kept."""
        with self.step._locked():
            if self._ours():
                self.step.interrupted(reason, socket.gethostname())
        self.release()

    def release(self) -> None:
        """Stop the heartbeat and give the lease back, where it is still ours."""
        self._stop.set()
        with self.step._locked():
            if self._ours():
                (self.step.path / "lease.json").unlink(missing_ok=True)
