"""The drafts of one persona and the log of decisions about them, as files tell them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm import records, reviews
from persllm.records import Item, Material, Reanswer
from persllm.reviews import Review

Row = dict[str, Any]


@dataclass(frozen=True)
class Drafts:
    """Where one persona's drafts lie."""

    annotate: Path
    """The artifacts of its annotate step."""
    materials: Path
    """The artifacts of its materials step."""
    pack: Path
    """Its folder, where reviews.jsonl is kept."""


def read_drafts(path: Path) -> tuple[list[Item], list[Reanswer]]:
    """Read a step's drafts.jsonl: items and re-answers."""
    items, again = [], []
    for where, row in records.read_json_lines(path):
        if "item_id" in row:
            again.append(records.parse(Reanswer, row, where))
        else:
            items.append(records.parse(Item, row, where))
    return items, again


class DraftSet:
    """One persona's drafts and its log.

    Args:
        place: where they lie.
        number: tells apart texts of the same id in two sets.
    """

    def __init__(self, place: Drafts, number: int) -> None:
        self.folder = place.pack
        self.number = number
        self.items, self.reanswers = read_drafts(place.annotate / "drafts.jsonl")
        self.materials = records.read(Material, place.materials / "materials.jsonl")
        aside = place.annotate / "set_aside.jsonl"
        self.set_aside: list[Row] = [row for _, row in records.read_json_lines(aside)] if aside.is_file() else []
        self.keys = {reviews.place_of(record): self.key(reviews.name_of(record)) for record in self.records}
        self.log = reviews.Log(place.pack)

    @property
    def records(self) -> list[Item | Reanswer]:
        """All drafts."""
        return [*self.items, *self.reanswers]

    def key(self, name: str) -> str:
        """Return what the page names a text by."""
        return f"{self.number}/{name}"

    def about(self, place: tuple[str, str]) -> list[Review]:
        """Return the log's lines about one text."""
        return [review for review in self.log.read() if review.place == place]

    def texts(self) -> list[Row]:
        """Return every text, each item followed by the re-answers to it and then by its twin."""
        by_id = {item.id: item for item in self.items}
        again: dict[str, list[Reanswer]] = {}
        for record in self.reanswers:
            again.setdefault(record.item_id, []).append(record)
        found: list[Row] = []
        met = set()
        for item in self.items:
            if item.id in met:
                continue
            for one in (item, by_id.get(item.premise_pair or "")):
                if one is not None:
                    met.add(one.id)
                    found.append(self._text(one, one, item.id))
                    found += [self._text(other, one, item.id) for other in again.get(one.id, [])]
        return found

    def _text(self, record: Item | Reanswer, item: Item, group: str) -> Row:
        return {
            "key": self.key(reviews.name_of(record)),
            "item": self.key(item.id),
            "group": self.key(group),
            "twin": None if item.premise_pair is None else self.key(item.premise_pair),
            "set": self.number,
            "id": reviews.name_of(record),
            "persona": record.persona,
            "stage": record.stage,
            "pattern": item.pattern,
            "material": record.material_id if isinstance(record, Item) else None,
            "retrieved": record.retrieved,
            "annotator": record.annotator,
            "question": item.question,
            "analysis": record.analysis,
            "response": record.response,
        }
