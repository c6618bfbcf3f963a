"""Step annotate: items and re-answers for a persona's materials."""

from __future__ import annotations

from pathlib import Path

from persllm import packs, records
from persllm.execute import Context
from persllm.steps import materials


def run(ctx: Context) -> None:
    """Write ``items.jsonl`` and ``reanswers.jsonl``.

    The ``recorded`` annotator takes the items that the pack ships.
    """
    card, paragraphs = materials.read(ctx.inputs["materials"])
    items, reanswers = packs.load_items(Path(ctx.local["folder"]), card, paragraphs)
    records.write(ctx.out / "items.jsonl", items)
    records.write(ctx.out / "reanswers.jsonl", reanswers)
    ctx.log(items=len(items), reanswers=len(reanswers))
