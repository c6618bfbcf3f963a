"""Step split: train, dev and test items, parted by material so that no paragraph feeds two of them.

1. Duplicates. Over the persona's pooled stages, in order of life, a question is dropped whose cosine to one kept before
   is at least ``duplicate_cosine`` (arXiv 2407.12393: 0.95).
2. Paragraphs that are near-duplicates (``leak_cosine``; of any stages and kinds) are tied: they go to one part, in
   which the first of them puts them. Tying loses no item, and a pair tied for nothing costs a bit of chance only.
3. Near-duplicate questions of different parts (``leak_cosine``): the one on the training side is dropped.

Twins are not each other's duplicates and fall together; re-answers of what fell fall too.

``leak_cosine`` is 0.8 by measurement, with all-MiniLM-L6-v2. Of 14,232 pairs of questions of one shipped persona that
ask different things (twins apart), the closest has 0.75; of 28 questions rephrased by hand, 18 have 0.82 or more, none
0.95, and those that are missed (0.25 to 0.74) are mostly remarks that keep no word. Of 13 paragraphs rephrased by hand
all have 0.83 or more; of 10,712 pairs of different paragraphs of one persona 5 have 0.8 or more (at most 0.88), each
two accounts of one fact at two stages, which had better be tied. Word trigrams add nothing: rephrased questions share
none at the median, and none of those that the cosine misses shares a quarter of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from persllm import duplicates, records
from persllm.embeddings import Vectors, embed
from persllm.errors import UserError
from persllm.execute import Context
from persllm.neighbours import Recall, Rows
from persllm.parts import PARTS, assign
from persllm.prompting import Source
from persllm.records import Item, Material, Reanswer
from persllm.schema import Split
from persllm.steps import materials
from persllm.store import read_json, write_json


def twins(items: list[Item]) -> Rows:
    """Return each item's twin as an index, or its own index where it has none, ``[len(items)]``."""
    place = {item.id: row for row, item in enumerate(items)}
    return np.array([place.get(item.premise_pair or item.id, row) for row, item in enumerate(items)], np.int64)


def drop_duplicates(items: list[Item], vectors: Vectors, cosine: float) -> tuple[dict[str, str], Recall | None]:
    """Return the duplicates among items in order of life, each with the kept item's id; see persllm.duplicates.

    Args:
        items: one persona's items, all stages.
        vectors: their questions' vectors, ``[len(items), width]``.
        cosine: from here on two questions are duplicates.
    """
    of, recall = duplicates.greedy(vectors, twins(items), cosine)
    return _named(items, of), recall


def near_duplicates(
    items: list[Item], part: Mapping[str, str], vectors: Vectors, cosine: float
) -> tuple[dict[str, str], Recall | None]:
    """Return the items to drop: train (or dev) questions too close to one of a later part, each with that item's id.

    Args:
        items: one persona's items.
        part: each material's part.
        vectors: the items' questions' vectors, ``[len(items), width]``.
        cosine: from here on two questions are near-duplicates.
    """
    parts = np.array([PARTS.index(part[item.material_id]) for item in items], np.int64)
    of, recall = duplicates.across(vectors, parts, twins(items), cosine)
    return _named(items, of), recall


def tie(paragraphs: list[Material], vectors: Vectors, cosine: float) -> tuple[dict[str, str], Recall | None]:
    """Return each paragraph's group of near-duplicates, by ids; a group is named by its first paragraph.

    Args:
        paragraphs: one persona's, of all stages and kinds.
        vectors: their vectors, ``[len(paragraphs), width]``.
        cosine: from here on two paragraphs are near-duplicates.
    """
    groups, recall = duplicates.tied(vectors, cosine)
    return {m.id: paragraphs[row].id for m, row in zip(paragraphs, groups.tolist(), strict=True)}, recall


def _named(items: list[Item], of: Rows) -> dict[str, str]:
    return {items[row].id: items[int(of[row])].id for row in np.flatnonzero(of >= 0).tolist()}


@dataclass(frozen=True)
class Parted:
    """What becomes of one persona's items and paragraphs."""

    parts: dict[str, list[Item]]
    """What each part keeps, in order of life."""
    material_part: dict[str, str]
    """The part of each paragraph that an item was written from, be that item dropped as a near-duplicate."""
    groups: dict[str, str]
    """Each paragraph's group of near-duplicates, by ids; a group is named by its first paragraph."""
    duplicates: dict[str, str]
    near_duplicates: dict[str, str]
    """Items dropped, each with the item that it repeats."""
    recalls: dict[str, Recall | None]
    """Of each search that was not exact."""

    @property
    def held(self) -> set[str]:
        """The groups of which a part other than train has items."""
        return {self.groups.get(m, m) for m, name in self.material_part.items() if name != "train"}


def parted(items: list[Item], paragraphs: list[Material], config: Split) -> Parted:
    """Drop duplicates, tie paragraphs and part what is left, as the head of this module says.

    Args:
        items: one persona's, in order of life.
        paragraphs: the persona's, of all stages and kinds; where there are none, none are tied.
        config: the thresholds, shares, seed and embedder.
    """
    vectors = embed([item.question for item in items], config.embedder)
    dropped, among = drop_duplicates(items, vectors, config.duplicate_cosine)
    whole = np.array([item.id not in dropped for item in items], bool)
    items, vectors = [item for item in items if item.id not in dropped], vectors[whole]
    groups, tied = {}, None
    if paragraphs:
        texts = embed([paragraph.text for paragraph in paragraphs], config.embedder)
        groups, tied = tie(paragraphs, texts, config.leak_cosine)
    part = assign(items, config.test, config.dev, config.seed, groups)
    leaking, across = near_duplicates(items, part, vectors, config.leak_cosine)
    left = [item for item in items if item.id not in leaking]
    parts = {name: [item for item in left if part[item.material_id] == name] for name in PARTS}
    recalls = {"duplicates": among, "ties": tied, "near_duplicates": across}
    return Parted(parts, part, groups, dropped, leaking, recalls)


def run(ctx: Context) -> None:
    """Write ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``, ``reanswers.jsonl`` and ``split.json``.

    ``split.json`` tells what was dropped and for which item, which paragraphs are tied, and which are held out. A model
    that wrote a training item may have been shown a held-out paragraph beside the item's own (``retrieved``), as in the
    paper: such items and re-answers to training items are counted (``train_items_shown_held``,
    ``train_reanswers_shown_held``) and kept, for retrieval takes most paragraphs of a stage.
    """
    card, paragraphs = materials.read(ctx.inputs["materials"])
    life = list(card.stages)
    items = records.read(Item, ctx.inputs["annotate"] / "items.jsonl")
    if not items:
        raise UserError(f"{card.name} has no items to split; annotate some, or look at what its reviews reject")
    made = parted(sorted(items, key=lambda item: life.index(item.stage)), paragraphs, Split(**ctx.config))
    for name, kept in made.parts.items():
        if not kept:
            raise UserError(
                f"the {name} part of {items[0].persona} is empty; "
                "its items must be of more paragraphs (near-duplicates count as one), or change split.test, split.dev"
            )
        records.write(ctx.out / f"{name}.jsonl", kept)
    fallen = made.duplicates.keys() | made.near_duplicates.keys()
    reanswers = records.read(Reanswer, ctx.inputs["annotate"] / "reanswers.jsonl")
    left = [again for again in reanswers if again.item_id not in fallen]
    records.write(ctx.out / "reanswers.jsonl", left)
    counts = {name: len(kept) for name, kept in made.parts.items()}
    held, groups = made.held, made.groups
    trained = {item.id for item in made.parts["train"]}
    train: dict[str, list[Item] | list[Reanswer]] = {
        "items": made.parts["train"],
        "reanswers": [again for again in left if again.item_id in trained],
    }
    told: dict[str, Any] = {
        "items": counts,
        "duplicates_dropped": made.duplicates,
        "near_duplicates_dropped": made.near_duplicates,
        "reanswers_dropped": len(reanswers) - len(left),
        **{
            f"train_{kind}_shown_held": sum(any(groups[m] in held for m in one.retrieved) for one in found)
            for kind, found in train.items()
        },
        "paragraphs_tied": {material: group for material, group in groups.items() if material != group},
        "paragraphs_held": [paragraph.id for paragraph in paragraphs if groups[paragraph.id] in held],
    }
    write_json(ctx.out / "split.json", told)
    lengths = {key: value if isinstance(value, int) else len(value) for key, value in told.items() if key != "items"}
    recalls = {f"{name}_recall": str(recall) for name, recall in made.recalls.items() if recall}
    ctx.log(**counts, **lengths, **recalls)


def read(artifacts: Path, part: str) -> list[Item]:
    """Read one part's items."""
    return records.read(Item, artifacts / f"{part}.jsonl")


def read_reanswers(artifacts: Path) -> list[Reanswer]:
    """Read the re-answers to all parts' items."""
    return records.read(Reanswer, artifacts / "reanswers.jsonl")


def prompt_source(ctx: Context) -> Source:
    """Return what an arm's prompts are built from: never a held-out item.

    Nor, unless the arm is open-book, a paragraph that a held-out item was written from: no tuned arm saw it, and a
    store that holds it holds the answer.
    """
    card, paragraphs = materials.read(ctx.inputs["materials"])
    if not ctx.config["prompt"]["open_book"]:
        paragraphs = unheld(ctx.inputs["split"], paragraphs)
    label = (ctx.config.get("tune") or {}).get("temporal_label", "text")
    examples = read(ctx.inputs["split"], "train")
    return Source(card, ctx.config["prompt"] | {"temporal_label": label}, paragraphs, examples)


def unheld(artifacts: Path, paragraphs: list[Material]) -> list[Material]:
    """Return the paragraphs that no held-out item (dev or test) was written from, nor from a near-duplicate of it."""
    held = set(read_json(artifacts / "split.json")["paragraphs_held"])
    return [paragraph for paragraph in paragraphs if paragraph.id not in held]
