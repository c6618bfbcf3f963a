"""Persona packs: a folder with persona.yaml and, per stage, materials and recorded items.

PACK/persona.yaml            name, identity, profile, stages: {early: {label, summary}, ...}
PACK/STAGE/knowledge.txt     objective paragraphs, one a line, optionally after a ``[source]`` tag
PACK/STAGE/speech.txt        subjective paragraphs
PACK/STAGE/items.jsonl       recorded items (annotator ``recorded``)
PACK/STAGE/reanswers.jsonl   this stage's answers to the other stages' items
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from persllm import records
from persllm.errors import UserError, did_you_mean
from persllm.records import KINDS, Item, Material, Reanswer

SHIPPED = Path(__file__).parent / "personas"
FILES = ("persona.yaml", "*/*.txt", "*/*.jsonl")


@dataclass(frozen=True)
class Stage:
    """A period of the persona's life."""

    label: str
    """The temporal label, e.g. ``Christmas Eve 1843, before the spirits came``."""
    summary: str


@dataclass(frozen=True)
class Card:
    """The persona: name, one-line identity, character card, stages in order of life."""

    name: str
    identity: str
    profile: str
    stages: dict[str, Stage]


def folder(pack: str) -> Path:
    """Return a pack's folder: a shipped pack by name, or any folder by path.

    Raises:
        UserError: no such pack, or the folder has no persona.yaml.
    """
    shipped = sorted(p.name for p in SHIPPED.iterdir() if p.is_dir())
    path = SHIPPED / pack if pack in shipped else Path(pack)
    if not path.is_dir():
        raise UserError(
            f"persona.pack={pack}: no such pack{did_you_mean(pack, shipped)} (shipped: {', '.join(shipped)})"
        )
    if not (path / "persona.yaml").is_file():
        raise UserError(
            f"{path}: no persona.yaml in this folder; a pack needs one with name, identity, profile, stages"
        )
    return path


def _text(row: Any, keys: tuple[str, ...], where: str) -> dict[str, str]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a mapping with {', '.join(keys)}")
    for key in row:
        if key not in keys:
            raise UserError(f"{where}: unknown key {key!r}{did_you_mean(str(key), keys)}")
    for key in keys:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise UserError(f"{where}: {key!r} is missing or empty; expected a text")
    return {key: row[key].strip() for key in keys}


def load_card(root: Path, stages: list[str] | None = None) -> Card:
    """Read and check persona.yaml.

    Args:
        root: the pack's folder.
        stages: a subset of its stages, or None for all.
    """
    path = root / "persona.yaml"
    try:
        row = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(row, dict) or not isinstance(row.get("stages"), dict) or not row["stages"]:
        raise UserError(f"{path}: expected name, identity, profile and a mapping of stages")
    parts = {
        str(name): Stage(**_text(stage, ("label", "summary"), f"{path}: stages.{name}"))
        for name, stage in row.pop("stages").items()
    }
    for name in parts:
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise UserError(f"{path}: stages.{name}: a stage's name is lower case letters, digits and _")
    for name in stages or ():
        if name not in parts:
            raise UserError(f"persona.stages: {path.parent.name} has no stage {name!r}; it has {', '.join(parts)}")
    chosen = {name: stage for name, stage in parts.items() if stages is None or name in stages}
    return Card(**_text(row, ("name", "identity", "profile"), str(path)), stages=chosen)


_TAG = re.compile(r"^\[([^\]]{1,80})\]\s+")


def load_materials(root: Path, card: Card) -> list[Material]:
    """Read every stage's paragraphs, in file order.

    Raises:
        UserError: a stage's folder or file is missing or empty.
    """
    found = []
    for stage in card.stages:
        if not (root / stage).is_dir():
            raise UserError(
                f"{root / stage}: no folder for stage {stage!r}, which persona.yaml names; make it or remove the stage"
            )
        for kind in KINDS:
            path = root / stage / f"{kind}.txt"
            if not path.is_file():
                raise UserError(f"{path}: no such file; expected {kind} paragraphs, one a line")
            try:
                lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from error
            if not lines:
                raise UserError(f"{path}: the file is empty; expected {kind} paragraphs, one a line")
            for order, line in enumerate(lines, 1):
                tag = _TAG.match(line)
                found.append(
                    Material(
                        id=f"{root.name}-{stage}-{kind}-{order:03d}",
                        persona=root.name,
                        stage=stage,
                        kind=kind,
                        order=order,
                        text=line[tag.end() :] if tag else line,
                        source=tag.group(1) if tag else f"{stage}/{kind}.txt:{order}",
                    )
                )
    return found


def _keys(row: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object")
    for key in keys:
        if key not in row:
            raise UserError(f"{where}: field {key!r} is missing (expected {', '.join(keys)})")
    for key in row:
        if key not in keys:
            raise UserError(f"{where}: unknown field {key!r}{did_you_mean(key, keys)}")
    return row


def load_items(root: Path, card: Card, materials: list[Material]) -> tuple[list[Item], list[Reanswer]]:
    """Read the recorded items and re-answers, with their links checked.

    Raises:
        UserError: a bad line, or a link to no material, twin or item.
    """
    known = {m.id for m in materials}
    items: list[Item] = []
    places: dict[str, str] = {}
    for stage in card.stages:
        for where, row in records.read_json_lines(root / stage / "items.jsonl"):
            row = _keys(row, ("id", "pattern", "material", "premise_pair", "question", "analysis", "response"), where)
            kind, _, order = str(row.pop("material")).partition("/")
            row["material_id"] = f"{root.name}-{stage}-{kind}-{int(order) if order.isdigit() else 0:03d}"
            if row["material_id"] not in known:
                raise UserError(
                    f"{where}: material {kind}/{order} is no line of {root / stage}; expected e.g. knowledge/3"
                )
            row |= {"persona": root.name, "stage": stage, "annotator": "recorded"}
            item = records.parse(Item, row, where)
            if item.id in places:
                raise UserError(f"{where}: id {item.id!r} stands already at {places[item.id]}; ids must differ")
            places[item.id] = where
            items.append(item)
    by_id = {item.id: item for item in items}
    for item in items:
        if item.premise_pair is not None:
            twin = by_id.get(item.premise_pair)
            if twin is None or twin.premise_pair != item.id or twin.material_id != item.material_id:
                raise UserError(
                    f"{places[item.id]}: premise_pair {item.premise_pair!r} is no twin of {item.id!r}; "
                    "twins name each other and share a material"
                )
    # Stages that this study leaves out have items too, which a re-answer may be to.
    everywhere = {row.get("id") for path in root.glob("*/items.jsonl") for _, row in records.read_json_lines(path)}
    reanswers: list[Reanswer] = []
    for stage in card.stages:
        path = root / stage / "reanswers.jsonl"
        for where, row in records.read_json_lines(path) if path.is_file() else ():
            row = _keys(row, ("item", "analysis", "response"), where)
            row["item_id"] = row.pop("item")
            target = by_id.get(row["item_id"])
            if target is None and row["item_id"] not in everywhere:
                raise UserError(f"{where}: item {row['item_id']!r} is in no items.jsonl of this pack")
            if target is not None and target.stage == stage:
                raise UserError(
                    f"{where}: item {row['item_id']!r} is this stage's own; a re-answer is to another stage's"
                )
            if target is not None:
                row |= {"persona": root.name, "stage": stage, "annotator": "recorded"}
                reanswers.append(records.parse(Reanswer, row, where))
    return items, reanswers
