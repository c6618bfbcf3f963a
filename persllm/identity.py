"""Fingerprints: the hash of a step's meaning, and the words that explain a change of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persllm.validate import flatten


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def fingerprint(step: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the hex sha256 of a step's name, code version, semantic config and inputs' fingerprints."""
    meaning = {"step": step, "version": version, "config": config, "inputs": inputs}
    return hashlib.sha256(canonical(meaning)).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(root: Path, patterns: tuple[str, ...], without: tuple[str, ...] = ()) -> str:
    """Return the hex sha256 over the relative names and bytes of a folder's files that match, but those so named."""
    digest = hashlib.sha256()
    for path in sorted(
        {p for pattern in patterns for p in root.glob(pattern) if p.is_file() and p.name not in without}
    ):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + file_sha256(path).encode())
    return digest.hexdigest()


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one ``"key old -> new"`` for each leaf that two configs do not share."""
    before, after = dict(flatten(dict(old))), dict(flatten(dict(new)))
    told = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            told.append(f"{key} is new ({_show(after[key])})")
        elif key not in after:
            told.append(f"{key} is gone (was {_show(before[key])})")
        elif before[key] != after[key]:
            told.append(f"{key} {_show(before[key])} -> {_show(after[key])}")
    return told
