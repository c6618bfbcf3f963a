"""Step materials: read a pack's paragraphs and character card into the store."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from persllm import packs, records
from persllm.cards import Card, from_row
from persllm.execute import Context
from persllm.records import Material
from persllm.store import read_json, write_json


def run(ctx: Context) -> None:
    """Write ``materials.jsonl`` and ``persona.json``; of one long text also ``survey.txt``: chapters and speakers."""
    root = Path(ctx.local["folder"])
    packs.require_unchanged(root, ctx.config["sha256"])
    card = packs.load_card(root, ctx.config["stages"])
    records.write(ctx.out / "materials.jsonl", packs.load_materials(root, card))
    if card.source is not None:
        from persllm.ingest import survey

        (ctx.out / "survey.txt").write_text(survey(root, card).table() + "\n", encoding="utf-8")
    write_json(ctx.out / "persona.json", dataclasses.asdict(card))


def read(artifacts: Path) -> tuple[Card, list[Material]]:
    """Read what this step wrote."""
    return from_row(read_json(artifacts / "persona.json")), records.read(Material, artifacts / "materials.jsonl")
