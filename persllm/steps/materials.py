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
    if card.source is None:
        found = packs.load_materials(root, card)
    else:
        from persllm import ingest

        packs.check_source(root, card)
        reading = ingest.read(root, card)
        found = reading.materials
        for sentence in reading.survey.used():
            ctx.say(sentence)
        (ctx.out / "survey.txt").write_text(reading.survey.table() + "\n", encoding="utf-8")
    records.write(ctx.out / "materials.jsonl", found)
    write_json(ctx.out / "persona.json", dataclasses.asdict(card))


def read(artifacts: Path) -> tuple[Card, list[Material]]:
    """Read what this step wrote."""
    return from_row(read_json(artifacts / "persona.json")), records.read(Material, artifacts / "materials.jsonl")
