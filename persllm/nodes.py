"""A step of the pipeline as it is planned: its meaning, its inputs, its fingerprint. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persllm.compose import slug
from persllm.identity import fingerprint
from persllm.steps import VERSIONS
from persllm.store import StepDir


def plain(value: Any) -> Any:
    """Return a dataclass as JSON types only."""
    return json.loads(json.dumps(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Step:
    """A node of the pipeline: its meaning, and the steps it reads."""

    name: str
    label: str
    config: dict[str, Any]
    inputs: dict[str, Step] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    """Where things are on this machine, and other things that change no result."""
    version: int = 0
    fingerprint: str = ""

    @property
    def id(self) -> str:
        """The folder under outputs/, ``<step>/<label>-<hash8>``."""
        return f"{self.name}/{self.label}-{self.fingerprint[:8]}"

    def directory(self, outputs: Path) -> StepDir:
        """Return the step's directory."""
        return StepDir(outputs / self.id)

    def meaning(self) -> dict[str, Any]:
        """What config.json holds: name, code version, semantic config, and the local part that is not."""
        return {"step": self.name, "version": self.version, "config": self.config, "local": self.local}

    def input_record(self) -> dict[str, Any]:
        """What inputs.json holds: each role's step and fingerprint."""
        return {role: {"id": s.id, "fingerprint": s.fingerprint} for role, s in self.inputs.items()}


def make_step(
    name: str,
    label: str,
    config: dict[str, Any],
    inputs: dict[str, Step] | None = None,
    local: dict[str, Any] | None = None,
) -> Step:
    """Build a step with its fingerprint."""
    inputs = inputs or {}
    version = VERSIONS[name]
    digest = fingerprint(name, version, config, {role: step.fingerprint for role, step in inputs.items()})
    return Step(name, slug(label), config, inputs, local or {}, version, digest)
