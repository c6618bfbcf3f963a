"""The steps in which an arm's personas talk to each other: whom a cell's persona meets. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persllm import metrics, pack_probes, packs

if TYPE_CHECKING:
    from persllm.nodes import Step
    from persllm.plan_scores import Made
    from persllm.step_builder import StepBuilder


def _name(made: Made) -> str:
    return packs.folder(made.cell.config.persona.pack).name


def _converse(builder: StepBuilder, cast: list[Made], metric: str) -> Step:
    module, config = metrics.module(metric), cast[0].cell.config
    roots = [packs.folder(one.cell.config.persona.pack) for one in cast]
    told = [{"persona": root.name, "probes_sha256": pack_probes.sha256(root)} for root in roots]
    turns = module.turns(config.evaluate.limit)
    meaning = cast[0].generate.config | {"cast": told, "turns": turns, "limit": config.evaluate.limit}
    # Conversations are drawn, so that the seed matters to prompted arms too.
    meaning |= {"metric": metric, "asked": module.VERSIONS["probe"], "seed": config.seed}
    inputs = {f"{place}_{role}": step for place, one in enumerate(cast) for role, step in one.generate.inputs.items()}
    local = cast[0].generate.local | {"folders": list(map(str, roots)), "work": turns}
    names = "-".join(_name(one) for one in cast)
    return builder.step("converse", f"{names}-{config.method.name}-s{meaning['seed']}", meaning, inputs, local)


def partners(made: Made, beside: list[Made]) -> list[Made]:
    """Return whom a persona meets: its neighbours where all of the study stand in a ring, in the alphabet's order."""
    ring = sorted([made, *beside], key=_name)
    place = ring.index(made)
    met = (ring[(place + 1) % len(ring)], ring[place - 1])
    return [one for number, one in enumerate(met) if one is not made and one not in met[:number]]


def talks(builder: StepBuilder, made: Made, beside: list[Made], metric: str) -> dict[str, Step]:
    """Return a cell's conversations, and the paragraphs by which its persona and those it meets are told apart.

    Args:
        builder: makes the steps.
        made: the cell.
        beside: the study's cells of the same arm and seed as other personas.
        metric: the metric that needs them.

    Returns:
        Steps by role: ``conversation_NAME`` and ``paragraphs_NAME``, of the persona itself where it has several stages.
    """
    found = {f"paragraphs_{_name(made)}": made.generate.inputs["materials"]}
    if len(made.generate.inputs["materials"].config["stages"]) > 1:
        found[f"conversation_{_name(made)}"] = _converse(builder, [made], metric)
    for one in partners(made, beside):
        cast = sorted([made, one], key=_name)
        found[f"conversation_{_name(one)}"] = _converse(builder, cast, metric)
        found[f"paragraphs_{_name(one)}"] = one.generate.inputs["materials"]
    return found
