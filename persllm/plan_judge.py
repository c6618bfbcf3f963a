"""The steps by which a judge reads every arm of one persona and seed, and what they will cost. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from persllm import pack_probes, packs
from persllm.choices import JudgeKind
from persllm.judging import costs, labels, prompts
from persllm.models import model_identity
from persllm.nodes import plain
from persllm.plan_scores import Made
from persllm.schema import Config, Model

if TYPE_CHECKING:
    from persllm.nodes import Step
    from persllm.step_builder import StepBuilder

CHARACTERS = 4
"""So many are shown where a speaker is to be found, if there are as many."""


def judges(builder: StepBuilder, study: Sequence[Made]) -> list[Step | None]:
    """Return each cell's judge step, one for all arms of a persona and seed that met the same items; None for none.

    What it costs is told in the builder's notes.
    """
    groups: dict[Any, list[Made]] = {}
    for made in study:
        groups.setdefault(_group(builder, made), []).append(made)
    steps = {key: _step(builder, group) for key, group in groups.items()}
    return [steps[_group(builder, made)] for made in study]


def _group(builder: StepBuilder, made: Made) -> Any:
    config = made.cell.config
    split = builder.split(config, config.persona.pack).id
    return made.cell.persona, made.cell.seed, split, config.pairs.embedder, repr(config.judge)


def _meaning(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of the section judge makes a step's meaning, and what does not."""
    meaning: dict[str, Any] = plain(config.judge)
    local = {"endpoint": meaning.pop("endpoint"), "model": meaning["model"], "labels": meaning["labels"]}
    base = model_identity(config.model)
    if config.judge.kind is JudgeKind.local:
        meaning["model"] = {"identity": model_identity(Model(path=local["model"]))}
        # In bfloat16 its padding moves the last bits.
        meaning["batch_size"] = local["endpoint"]["batch_size"]
        meaning["other_family"] = meaning["model"]["identity"] != base
    else:
        meaning["model"] = {"api": local["model"]}
        meaning["other_family"] = local["model"] != config.model.path
    meaning["labels"] = labels.digest(local["labels"]) if local["labels"] else None
    return meaning, local


def _step(builder: StepBuilder, group: list[Made]) -> Step | None:
    config, first = group[0].cell.config, group[0]
    if config.judge.kind is JudgeKind.none:
        return None
    pack, seed = config.persona.pack, first.cell.seed
    root = packs.folder(pack)
    arms = {made.cell.arm: made.generate for made in group}
    inputs = {"materials": builder.materials(config, pack), "split": builder.split(config, pack)}
    inputs |= {f"arm_{number}": step for number, step in enumerate(arms.values())}
    others = builder.others(config)
    inputs |= {f"other_{number}": builder.split(config, other) for number, other in enumerate(others)}
    beside = _beside(builder, config, others)
    inputs |= {f"card_{number}": builder.materials(config, other) for number, other in enumerate(beside)}
    meaning, local = _meaning(config)
    meaning |= {"arms": list(arms), "seed": seed, "embedder": config.pairs.embedder}
    meaning |= {"probes_sha256": pack_probes.sha256(root), "prompts_sha256": prompts.hashes()}
    probes = pack_probes.read(root, list(builder.pack(config).card.stages))
    expected = costs.estimate(config, builder.pack(config), probes, len(arms), 1 + len(beside))
    told = expected.told(config.judge.endpoint.budget, config.judge.attempts, "judge")
    builder.notes.append(f"judge {first.cell.persona} s{seed}: at most {told}")
    local |= {"folder": str(root), "work": expected.requests, "expected": dataclasses.asdict(expected)}
    return builder.step("judge", f"{first.cell.persona}-s{seed}", meaning, inputs, local)


def _beside(builder: StepBuilder, config: Config, others: list[str]) -> list[str]:
    """Return the characters that a speaker is told from: the study's other ones, then shipped ones."""
    own = packs.folder(config.persona.pack)
    shipped = sorted(path.name for path in packs.SHIPPED.iterdir() if path.is_dir())
    found: dict[Any, str] = {}
    for name in (*others, *shipped):
        if packs.folder(name) != own:
            found.setdefault(packs.folder(name), name)
    return list(found.values())[: CHARACTERS - 1]
