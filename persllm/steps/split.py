"""Step split: train, dev and test items, parted by material so that no paragraph feeds two of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from persllm import records
from persllm.embeddings import embed
from persllm.errors import UserError
from persllm.execute import Context
from persllm.records import Item, Material, Reanswer
from persllm.store import write_json

PARTS = ("train", "dev", "test")


def assign(items: list[Item], test: float, dev: float, seed: int) -> dict[str, str]:
    """Return each material's part.

    Within each stage and pattern group the materials are ordered by a hash of seed and id; the first
    ``round(test * n)`` are test, the next ``round(dev * n)`` dev. A twin pair shares its material and so its part.
    """
    patterns: dict[str, set[str]] = defaultdict(set)
    stages: dict[str, str] = {}
    for item in items:
        patterns[item.material_id].add("premise" if item.premise_pair else item.pattern)
        stages[item.material_id] = item.stage
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for material, found in patterns.items():
        groups[(stages[material], *sorted(found))].append(material)
    part = {}
    for group in groups.values():
        group.sort(key=lambda material: hashlib.sha256(f"{seed}:{material}".encode()).digest())
        held = round(test * len(group))
        tune = round(dev * len(group))
        for place, material in enumerate(group):
            part[material] = "test" if place < held else "dev" if place < held + tune else "train"
    return part


def near_duplicates(parts: dict[str, list[Item]], embedder: str, cosine: float) -> dict[str, str]:
    """Return the items to drop: train (or dev) questions too close to one of a later part, with that item's id."""
    vectors = {part: embed([item.question for item in parts[part]], embedder) for part in PARTS if parts[part]}
    dropped = {}
    for here, there in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if here not in vectors or there not in vectors:
            continue
        close = vectors[here] @ vectors[there].T
        for i, item in enumerate(parts[here]):
            if close[i].max() >= cosine:
                dropped.setdefault(item.id, parts[there][int(close[i].argmax())].id)
    return dropped


def run(ctx: Context) -> None:
    """Write ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``, ``reanswers.jsonl`` and ``split.json`` (the dropped)."""
    items = records.read(Item, ctx.inputs["annotate"] / "items.jsonl")
    config = ctx.config
    part = assign(items, config["test"], config["dev"], config["seed"])
    parts = {name: [item for item in items if part[item.material_id] == name] for name in PARTS}
    dropped = near_duplicates(parts, config["embedder"], config["duplicate_cosine"])
    for name in PARTS:
        kept = [item for item in parts[name] if item.id not in dropped]
        if not kept:
            raise UserError(
                f"the {name} part of {items[0].persona if items else 'this persona'} is empty; "
                "annotate more items or change split.test and split.dev"
            )
        records.write(ctx.out / f"{name}.jsonl", kept)
    reanswers = records.read(Reanswer, ctx.inputs["annotate"] / "reanswers.jsonl")
    records.write(ctx.out / "reanswers.jsonl", [r for r in reanswers if r.item_id not in dropped])
    counts = {name: sum(item.id not in dropped for item in parts[name]) for name in PARTS}
    write_json(ctx.out / "split.json", {"items": counts, "near_duplicates_dropped": dropped})
    ctx.log(**counts, near_duplicates_dropped=len(dropped))


def read(artifacts: Path, part: str) -> list[Item]:
    """Read one part's items."""
    return records.read(Item, artifacts / f"{part}.jsonl")


def read_reanswers(artifacts: Path) -> list[Reanswer]:
    """Read the re-answers to all parts' items."""
    return records.read(Reanswer, artifacts / "reanswers.jsonl")


def unheld(artifacts: Path, paragraphs: list[Material]) -> list[Material]:
    """Return the paragraphs that no held-out item (dev or test) was written from."""
    held = {item.material_id for part in ("dev", "test") for item in read(artifacts, part)}
    return [paragraph for paragraph in paragraphs if paragraph.id not in held]
