"""Step score: what one metric makes of an arm's answers to its probes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from persllm import metrics, records, transcripts
from persllm.execute import Context
from persllm.probes import Evidence, Scored
from persllm.records import Score
from persllm.steps import generate, materials, probe, split
from persllm.store import write_json


def _roles(ctx: Context, prefix: str) -> dict[str, Path]:
    return {role.removeprefix(prefix): path for role, path in ctx.inputs.items() if role.startswith(prefix)}


def evidence(ctx: Context) -> Evidence:
    """Read what scoring sees from the steps before it."""
    about = probe.subject(ctx)
    _, own = materials.read(ctx.inputs["materials"])
    paragraphs = {name: materials.read(path)[1] for name, path in _roles(ctx, "paragraphs_").items()}
    talks = [transcripts.load(path) for path in _roles(ctx, "conversation_").values()]
    return Evidence(
        subject=about,
        arm=ctx.config["arm"],
        seed=ctx.config["seed"],
        told=probe.read(ctx.inputs["probe"]) if "probe" in ctx.inputs else [],
        prior=probe.read(ctx.inputs["prior"]) if "prior" in ctx.inputs else [],
        others={name: probe.read(path) for name, path in _roles(ctx, "other_").items()},
        paragraphs=paragraphs | {about.name: split.unheld(ctx.inputs["split"], own)} if paragraphs else {},
        replies=generate.read(ctx.inputs["generate"]) if "generate" in ctx.inputs else [],
        turns=[turn for talk in talks for turn in talk.turns],
        opinions=[opinion for talk in talks for opinion in talk.opinions],
        embedder=ctx.config["embedder"],
    )


def run(ctx: Context) -> None:
    """Write ``scores.jsonl``, ``figures.json`` (numbers that are no means) and ``notes.json`` (what was left out)."""
    seen = evidence(ctx)
    found: Scored = metrics.module(ctx.config["metric"]).score(seen)
    scores = [
        Score(
            item_id=one.item_id,
            arm=seen.arm,
            seed=seen.seed,
            persona=seen.subject.name,
            stage=one.stage,
            cluster=one.cluster,
            metric=one.metric,
            value=None if one.value is None else round(one.value, 6),
        )
        for one in found.values
    ]
    records.write(ctx.out / "scores.jsonl", scores)
    write_json(ctx.out / "figures.json", [dataclasses.asdict(figure) for figure in found.figures])
    write_json(ctx.out / "notes.json", found.notes)
    for note in found.notes:
        ctx.say(note)
    ctx.log(scores=len(scores), missing=sum(score.value is None for score in scores), left_out=len(found.notes))
