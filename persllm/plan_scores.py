"""The steps by which an arm is examined beyond its held-out items: probe asks, score scores. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from persllm import metrics, pack_probes, packs, plan_talks
from persllm.choices import Recipe
from persllm.schema import Config
from persllm.schema_method import Method, Prompt

if TYPE_CHECKING:
    from persllm.compose import Cell
    from persllm.nodes import Step
    from persllm.step_builder import StepBuilder


@dataclasses.dataclass(frozen=True)
class Made:
    """A cell with the steps that make its arm."""

    cell: Cell
    train: tuple[Step, ...]
    generate: Step


def examining(config: Config) -> list[str]:
    """Return the metrics that examine an arm by probes, or by more than one item at a time."""
    return [name for name in config.evaluate.metrics if hasattr(metrics.module(name), "score")]


def unpersonified(config: Config) -> Config:
    """Return the same configuration for the base model without a persona."""
    return dataclasses.replace(config, method=Method(name="prompt_none", prompt=Prompt(recipe=Recipe.none)))


def _about(config: Config, metric: str) -> dict[str, Any]:
    root = packs.folder(config.persona.pack)
    return {"metric": metric, "limit": config.evaluate.limit, "probes_sha256": pack_probes.sha256(root)}


def _seed(made: Made, metric: str) -> int:
    """Return the seed that a metric's answers depend on: one for all seeds of an arm from which nothing is drawn."""
    sampled = getattr(metrics.module(metric), "SAMPLED", False)
    return made.cell.config.seed if sampled else made.generate.config["seed"]


def probe(builder: StepBuilder, made: Made, metric: str) -> Step | None:
    """Return the step that leads an arm through a metric's probes; None where it has none."""
    module, config = metrics.module(metric), made.cell.config
    if not hasattr(module, "probes"):
        return None
    generate = made.generate
    meaning = generate.config | _about(config, metric) | {"asked": module.VERSIONS["probe"]}
    meaning["seed"] = _seed(made, metric)
    local = generate.local | {"folder": str(packs.folder(config.persona.pack))}
    label = f"{made.cell.persona}-{config.method.name}-{metric}-s{meaning['seed']}"
    return builder.step("probe", label, meaning, dict(generate.inputs), local)


def scores(builder: StepBuilder, made: Made, study: list[Made]) -> tuple[Step, ...]:
    """Return the steps that score a cell on each metric that examines it.

    Args:
        builder: makes the steps.
        made: the cell.
        study: all cells; those of the same arm and seed as other personas are what it is compared with.
    """
    config = made.cell.config
    plainly = unpersonified(config)
    generic = Made(dataclasses.replace(made.cell, config=plainly), (), builder.generate(plainly, made.cell.persona, ()))
    beside = [one for one in study if _same_arm(one.cell, made.cell)]
    found = []
    for metric in examining(config):
        module = metrics.module(metric)
        inputs = {role: made.generate.inputs[role] for role in ("materials", "split")}
        asked = probe(builder, made, metric)
        inputs |= {"probe": asked} if asked else {}
        if "prior" in module.NEEDS and made.generate is not generic.generate:
            prior = probe(builder, generic, metric)
            inputs |= {"prior": prior} if prior else {}
        if "others" in module.NEEDS:
            others = [(one.cell.config.persona.pack, probe(builder, one, metric)) for one in beside]
            inputs |= {f"other_{packs.folder(pack).name}": step for pack, step in others if step}
        if "paragraphs" in module.NEEDS:
            names = builder.others(config)
            inputs |= {f"paragraphs_{packs.folder(pack).name}": builder.materials(config, pack) for pack in names}
        if "replies" in module.NEEDS:
            inputs |= {"generate": made.generate}
        if "conversations" in module.NEEDS:
            inputs |= plan_talks.talks(builder, made, beside, metric)
        meaning = _about(config, metric) | {"scored": module.VERSIONS["score"], "embedder": config.pairs.embedder}
        meaning |= {"arm": config.method.name, "seed": _seed(made, metric)}
        label = f"{made.cell.persona}-{config.method.name}-{metric}-s{meaning['seed']}"
        found.append(builder.step("score", label, meaning, inputs, {"folder": str(packs.folder(config.persona.pack))}))
    return tuple(found)


def _same_arm(one: Cell, other: Cell) -> bool:
    same = (one.arm, one.seed, one.variant) == (other.arm, other.seed, other.variant)
    return same and packs.folder(one.config.persona.pack) != packs.folder(other.config.persona.pack)
