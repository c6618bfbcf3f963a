"""Step pairs: automatic preferences against other personas and against the same persona at another stage.

Built as in arXiv 2407.12393 (automatic DPO): cross-persona rejections are the answer to the rank-th
nearest question of the other personas, and cross-stage ones are the other stage's answer to the same question.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from persllm import records
from persllm.embeddings import embed
from persllm.errors import UserError
from persllm.execute import Context
from persllm.records import Item, Pair, Reanswer
from persllm.steps import split
from persllm.store import write_json


def cross_persona(items: list[Item], pool: list[Item], rank: int, embedder: str) -> list[Pair]:
    """Return one pair per item: own answer chosen, the rank-th nearest foreign question's answer rejected.

    Args:
        items: own items.
        pool: other personas' items of the same part.
        rank: 1 is the nearest; capped by the pool's size.
        embedder: see persllm.embeddings.
    """
    if not items or not pool:
        return []
    own = embed([item.question for item in items], embedder)
    foreign = embed([item.question for item in pool], embedder)
    order = np.argsort(-(own @ foreign.T), axis=1, kind="stable")
    found = []
    for item, neighbours in zip(items, order, strict=True):
        other = pool[int(neighbours[min(rank, len(pool)) - 1])]
        found.append(_pair(item.id, item, item.stage, "cross_persona", item, other, f"{other.persona}/{other.id}"))
    return found


def cross_stage(items: list[Item], reanswers: list[Reanswer]) -> list[Pair]:
    """Return two pairs per re-answered item: a stage's answer is chosen for its own stage, rejected for the other."""
    by_id = {item.id: item for item in items}
    found = []
    for again in reanswers:
        item = by_id.get(again.item_id)
        if item is not None:
            own = f"{item.id}-{again.stage}"
            found.append(_pair(own, item, item.stage, "cross_stage", item, again, again.stage))
            found.append(_pair(f"{item.id}@{again.stage}", item, again.stage, "cross_stage", again, item, item.stage))
    return found


def _pair(
    name: str, item: Item, stage: str, kind: str, chosen: Item | Reanswer, rejected: Item | Reanswer, origin: str
) -> Pair:
    return Pair(
        id=f"{kind}-{name}",
        persona=item.persona,
        stage=stage,
        kind=kind,
        pattern=item.pattern,
        prompt=item.question,
        chosen=[chosen.analysis, chosen.response],
        rejected=[rejected.analysis, rejected.response],
        rejected_from=origin,
    )


def _limited(pairs: list[Pair], limit: int | None) -> list[Pair]:
    """Keep at most ``limit`` pairs, the stages in turn, in the order of a hash and not of the file."""
    met: Counter[str] = Counter()
    ranked = []
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(pair.id.encode()).digest()):
        ranked.append((met[pair.stage], pair))
        met[pair.stage] += 1
    return [pair for _, pair in sorted(ranked, key=lambda entry: entry[0])][:limit]


def run(ctx: Context) -> None:
    """Write ``train.jsonl`` and ``dev.jsonl`` of pairs, and ``pairs.json`` with counts."""
    config = ctx.config
    foreign = [path for role, path in sorted(ctx.inputs.items()) if role.startswith("other_")]
    reanswers = split.read_reanswers(ctx.inputs["split"])
    counts: dict[str, dict[str, int]] = {}
    for part in ("train", "dev"):
        items = split.read(ctx.inputs["split"], part)
        kinds: dict[str, list[Pair]] = {}
        if config["cross_persona"]:
            pool = [item for path in foreign for item in split.read(path, part)]
            kinds["cross_persona"] = cross_persona(items, pool, config["rank"], config["embedder"])
        if config["cross_stage"]:
            kinds["cross_stage"] = cross_stage(items, reanswers)
        for kind, made in kinds.items():
            if not made:
                raise UserError(
                    f"pairs.{kind} is on but no {kind} pair can be built for the {part} part: "
                    + (
                        "the pack has no reanswers.jsonl"
                        if kind == "cross_stage"
                        else "no other persona is in the study"
                    )
                    + f"; switch it off with pairs.{kind}=false"
                )
        limits = {kind: config[f"{kind}_limit" if part == "train" else "dev_limit"] for kind in kinds}
        kept = {kind: _limited(made, limits[kind]) for kind, made in kinds.items()}
        records.write(ctx.out / f"{part}.jsonl", [pair for made in kept.values() for pair in made])
        counts[part] = {kind: len(made) for kind, made in kept.items()}
    write_json(ctx.out / "pairs.json", counts)
    ctx.log(**{f"{part}_{kind}": n for part, found in counts.items() for kind, n in found.items()})


def read(artifacts: Path, part: str) -> list[Pair]:
    """Read one part's pairs."""
    return records.read(Pair, artifacts / f"{part}.jsonl")
