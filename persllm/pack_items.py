"""A pack's recorded items and re-answers, read with every problem and every broken link in them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persllm import records
from persllm.problems import Problems
from persllm.records import PREMISES, Item, Reanswer

if TYPE_CHECKING:
    from persllm.packs import Found

_TEXTS = ("id", "question", "analysis", "response")


def read(root: Path, found: Found, problems: Problems, unread: set[tuple[str, str]]) -> None:
    """Add the items and re-answers of the card's stages to what was found.

    Args:
        root: the pack's folder.
        found: the card and the materials, which items link to.
        problems: what is wrong is added here.
        unread: stages and kinds whose paragraphs could not be read, so that links to them prove nothing.
    """
    reader = _Reader(root, found, problems, unread)
    for stage in found.card.stages:
        if (root / stage).is_dir():
            reader.items(stage)
        else:
            reader.blind = True
    reader.twins()
    for stage in found.card.stages:
        reader.reanswers(stage)


class _Reader:
    """Reads the rows of one pack."""

    def __init__(self, root: Path, found: Found, problems: Problems, unread: set[tuple[str, str]]) -> None:
        self.root = root
        self.found = found
        self.problems = problems
        self.unread = unread
        self.known = {material.id for material in found.materials}
        self.places: dict[str, tuple[Path, int]] = {}
        """Where each item's id stands, be the item whole or not."""
        self.blind = False
        """Whether some items could not be read at all, so that an id which is not there proves nothing."""

    @functools.cached_property
    def everywhere(self) -> set[str]:
        """The ids of all stages' items: a re-answer may be to one of a stage that a study leaves out."""
        return set(self.places) | _ids(self.root)

    def link(self, name: Any, stage: str) -> tuple[str, str | None]:
        """Return the id of the material that ``KIND/NUMBER`` names, and what is wrong with that."""
        kind, _, order = str(name).partition("/")
        made = f"{self.root.name}-{stage}-{kind}-{int(order) if order.isdecimal() else 0:03d}"
        if made in self.known or (stage, kind) in self.unread:
            return made, None
        return made, f"material {name} is no line of {self.root / stage}; expected e.g. knowledge/3"

    def row(self, cls: type[Any], renamed: dict[str, str], value: Any, stage: str) -> tuple[Any, list[str]]:
        """Return a record, or None, and what is wrong with its row.

        Args:
            cls: Item or Reanswer.
            renamed: the names that a pack's row has for some fields of the record.
            value: the row.
            stage: whose row it is.
        """
        if not isinstance(value, dict):
            return None, records.faults(cls, value)
        given = {"persona": self.root.name, "stage": stage, "annotator": "recorded"}
        row = {name: value[key] for key, name in renamed.items() if key in value}
        told = [f"unknown field {key!r}; this is known from elsewhere, remove it" for key in value if key in given]
        told += [f"unknown field {name!r}; did you mean {key!r}?" for key, name in renamed.items() if name in value]
        row |= {k: v for k, v in value.items() if k not in renamed and k not in renamed.values() and k not in given}
        links = [("material_id", row["material_id"])] if "material_id" in row else []
        if isinstance(row.get("retrieved"), list):
            links += [("retrieved", name) for name in row["retrieved"]]
            row["retrieved"] = []
        for key, name in links:
            made, fault = self.link(name, stage)
            told += [fault] if fault else []
            row[key] = made if key == "material_id" else [*row[key], made]
        for fault in records.faults(cls, row | given):
            for key, name in renamed.items():
                fault = fault.replace(repr(name), repr(key), 1) if fault.startswith("field") else fault
            told.append(fault)
        told += [
            f"field {key!r} is empty; expected a text"
            for key in _TEXTS
            if isinstance(row.get(key), str) and not row[key].strip()
        ]
        return (None, told) if told else (cls(**row, **given), told)

    def items(self, stage: str) -> None:
        """Read a stage's items.jsonl."""
        path = self.root / stage / "items.jsonl"
        before = len(self.problems)
        rows = self.problems.rows(path, "recorded items, one a line") or ()
        self.blind = self.blind or len(self.problems) > before
        for number, value in rows:
            item, told = self.row(Item, {"material": "material_id"}, value, stage)
            name = value.get("id") if isinstance(value, dict) else None
            self.blind = self.blind or not isinstance(name, str)
            if isinstance(name, str) and name in self.places:
                there = ":".join(map(str, self.places[name]))
                told.append(f"id {name!r} stands already at {there}; ids must differ")
            elif isinstance(name, str):
                self.places[name] = path, number
            if item is not None and item.premise_pair is not None and item.pattern not in PREMISES:
                told.append(f"field 'premise_pair' is for {' and '.join(PREMISES)}; set it to null")
            for text in told:
                self.problems.add(path, number, text)
            if item is not None and not told:
                self.found.items.append(item)
                self.found.places[item.id] = f"{path}:{number}"

    def twins(self) -> None:
        """Note each broken link between twins once."""
        by_id = {item.id: item for item in self.found.items}
        told: set[str] = set()
        paired = [item for item in self.found.items if item.premise_pair is not None]
        # First the links that lead nowhere: their other ends, which point back in vain, are no second problem.
        for strict in (False, True):
            for item in paired:
                other = item.premise_pair or ""
                twin = by_id.get(other)
                if twin is None:
                    good = self.blind or other in self.places
                elif not strict:
                    good = twin.premise_pair is not None
                else:
                    good = other in told or _are_twins(item, twin)
                if not good and item.id not in told:
                    told.add(item.id)
                    self.problems.add(
                        *self.places[item.id],
                        f"premise_pair {other!r} is no twin of {item.id!r}; twins name each other, share a material, "
                        "and one premise is false, the other true",
                    )

    def reanswers(self, stage: str) -> None:
        """Read a stage's reanswers.jsonl, where it has one."""
        path = self.root / stage / "reanswers.jsonl"
        by_id = {item.id: item for item in self.found.items}
        met: dict[str, int] = {}
        for number, value in (self.problems.rows(path, "re-answers, one a line") or ()) if path.is_file() else ():
            made, told = self.row(Reanswer, {"item": "item_id"}, value, stage)
            name = value.get("item") if isinstance(value, dict) else None
            if isinstance(name, str) and name not in self.everywhere and not self.blind:
                told.append(f"item {name!r} is in no items.jsonl of this pack")
            elif isinstance(name, str) and name in met:
                told.append(f"item {name!r} is re-answered already at line {met[name]}; remove one of the two")
            elif isinstance(name, str) and name in self.places and self.places[name][0].parent.name == stage:
                told.append(f"item {name!r} is this stage's own; a re-answer is to another stage's")
            if isinstance(name, str):
                met.setdefault(name, number)
            for text in told:
                self.problems.add(path, number, text)
            if made is not None and not told and name in by_id:
                self.found.reanswers.append(made)
                self.found.places[f"{name}@{stage}"] = f"{path}:{number}"


def _are_twins(one: Item, other: Item) -> bool:
    named = one.premise_pair == other.id and other.premise_pair == one.id
    return named and one.material_id == other.material_id and {one.pattern, other.pattern} == set(PREMISES)


def _ids(root: Path) -> set[str]:
    """Return the ids in every items.jsonl, as far as they can be read."""
    aside = Problems()
    rows = [row for path in sorted(root.glob("*/items.jsonl")) for row in aside.rows(path, "") or ()]
    return {row["id"] for _, row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)}
