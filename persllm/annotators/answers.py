"""Every answer of an annotator on disk at once, kept by what was asked: nothing is paid for twice."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from persllm.annotators import Answer, Request
from persllm.identity import canonical
from persllm.store import read_json, write_atomic


def key(identity: dict[str, Any], request: Request) -> str:
    """Return the hex sha256 of who is asked and what."""
    return hashlib.sha256(canonical({"annotator": identity, **dataclasses.asdict(request)})).hexdigest()


class Answers:
    """The answers of one annotator, a file each under ``outputs/answers/``; several processes may share them."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = identity

    def key(self, request: Request) -> str:
        """Return what a request's answer is kept by."""
        return key(self.identity, request)

    def _path(self, request: Request) -> Path:
        name = self.key(request)
        return self.folder / name[:2] / f"{name}.json"

    def get(self, request: Request) -> Answer | None:
        """Return the answer to a request; None where there is none, or only a torn file."""
        row = read_json(self._path(request))
        try:
            return Answer(**row["answer"])
        except (TypeError, KeyError):
            return None

    def put(self, request: Request, answer: Answer) -> None:
        """Keep an answer, with what was asked; on disk when this returns."""
        path = self._path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {"annotator": self.identity, **dataclasses.asdict(request), "answer": dataclasses.asdict(answer)}
        write_atomic(path, canonical(row))
