"""What can be said of a persona before anything runs: what writing its items takes, and whether they are enough."""

from __future__ import annotations

import dataclasses

from persllm import parts, workload
from persllm.annotators.budget import estimate
from persllm.schema import Config


def notes(name: str, pack: workload.Pack, config: Config, recorded: bool) -> list[str]:
    """Return what can be said of a pack before its items are written or split: what that takes, and what will lack."""
    if not recorded and not pack.paragraphs:
        return [f"annotate {name}: what it takes is told once the long text is read"]
    if not recorded:
        annotate = dataclasses.asdict(config.annotate)
        expected = estimate(pack.card, pack.paragraphs, annotate, annotate["endpoint"])
        return [f"annotate {name}: {expected.told(annotate['endpoint']['budget'], annotate['attempts'])}"]
    found = set(parts.assign(pack.items, config.split.test, config.split.dev, config.split.seed).values())
    lacking = " and ".join(part for part in parts.PARTS if part not in found)
    few = f"{name}: its {len(pack.items)} items leave the {lacking} part empty, and step split will refuse them; "
    return [few + "write some for three paragraphs or more of each pattern and stage"] if lacking else []
