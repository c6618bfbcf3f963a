"""Why a step would run: its meaning against what earlier directories of the same label meant."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from persllm.identity import differences
from persllm.nodes import Step
from persllm.store import read_json

_ALIKE = 8
"""How many earlier directories of a label, latest first, ``explain`` looks at."""


@functools.lru_cache(maxsize=64)
def _listing(folder: Path, _changed: int) -> dict[str, list[Path]]:
    """Return a step's directories by label, latest first; ``_changed`` is the folder's mtime, which tells it anew."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns, reverse=True):
        found.setdefault(path.name.rpartition("-")[0], []).append(path)
    return found


def _earlier(step: Step, outputs: Path) -> list[Path]:
    folder = outputs / step.name
    return _listing(folder, folder.stat().st_mtime_ns).get(step.label, [])[:_ALIKE] if folder.is_dir() else []


def explain(step: Step, outputs: Path) -> str:
    """Say why a step would run, against the most alike of the latest directories of the same label."""
    directory = step.directory(outputs)
    state = directory.state()
    if state == "done":
        return "cached"
    if state == "failed":
        failure = directory.failure() or {}
        return f"failed before ({failure.get('class', 'unknown')}): {failure.get('message', '')}"
    if state in ("running", "stale"):
        return "running elsewhere" if state == "running" else "interrupted; continues"
    if directory.path.is_dir():
        torn = (directory.path / "DONE").exists()
        begun = "interrupted; continues" if (directory.path / "log.txt").exists() else "sent before; not begun"
        return "re-run because its artifacts are incomplete" if torn else begun
    best: list[str] | None = None
    for path in _earlier(step, outputs):
        meaning, inputs = read_json(path / "config.json"), read_json(path / "inputs.json")
        if not isinstance(meaning, dict) or not isinstance(inputs, dict):
            continue
        told = _changes(step, meaning, inputs)
        if best is None or len(told) < len(best):
            best = told
    return "new" if best is None else "re-run because " + "; ".join(best[:3]) + (" ..." if len(best) > 3 else "")


def _changes(step: Step, meaning: dict[str, Any], inputs: dict[str, Any]) -> list[str]:
    before, now = meaning.get("config", {}), step.config
    told = differences({**before, "code": meaning.get("version")}, {**now, "code": step.version})
    for role, record in step.input_record().items():
        if role not in inputs:
            told.append(f"input {role} is new")
        elif inputs[role]["fingerprint"] != record["fingerprint"]:
            told.append(f"input {role} changed")
    return told + [f"input {role} is gone" for role in inputs if role not in step.inputs]
