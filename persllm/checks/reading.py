"""What is to be checked, read from a pack, a file of items, a finished split, or general data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from persllm import packs, records, reviews
from persllm.chats.collect import goes_on
from persllm.chats.files import SUFFIXES, data_files, rows
from persllm.chats.turns import EXPECTED, Skip, Turn, first_turn
from persllm.errors import UserError, did_you_mean
from persllm.packs import Card
from persllm.parts import PARTS
from persllm.problems import Problems
from persllm.records import GeneralItem, Item, Material, Reanswer
from persllm.schema import General


@dataclass(frozen=True)
class Text:
    """A text with its place."""

    text: str
    place: str
    """``file:line``."""
    stage: str = ""
    owner: str = ""
    """What may say the same for good reason: the twins share one."""


@dataclass
class Data:
    """A pack or a data set."""

    name: str
    kind: str
    """``pack``, ``items``, ``split`` or ``general``."""
    root: Path
    card: Card | None = None
    materials: list[Material] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    reanswers: list[Reanswer] = field(default_factory=list)
    general: list[GeneralItem] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows of general data that have no question with an answer, by reason."""
    written: int = 0
    """Rows with question and response, as the step general writes them: they are no source for ``general.source``."""
    parts: dict[str, str] | None = None
    """Each item's part by its id, where the data is split already."""
    places: dict[str, str] = field(default_factory=dict)
    """As in ``packs.Found``."""
    notes: list[str] = field(default_factory=list)
    """What should be known of how it was read."""

    def place(self, name: str) -> str:
        """Return where a record stands, from the data's own folder where it is in there."""
        return self.places.get(name, name).removeprefix(f"{self.root}/")

    def paragraphs(self, kind: str | None = None) -> list[Text]:
        """Return the materials' texts, of one kind or of both."""
        return [Text(m.text, self.place(m.id), m.stage) for m in self.materials if kind in (None, m.kind)]

    def questions(self) -> list[Text]:
        """Return the items' questions, or general data's."""
        own = [Text(i.question, self.place(i.id), i.stage, _owner(i)) for i in self.items]
        return own + [Text(g.question, self.place(g.id)) for g in self.general]

    def responses(self) -> list[Text]:
        """Return the items' responses with the re-answers', or general data's."""
        own = [Text(i.response, self.place(i.id), i.stage, _owner(i)) for i in self.items]
        again = [Text(r.response, self.place(f"{r.item_id}@{r.stage}"), r.stage) for r in self.reanswers]
        return own + again + [Text(g.response, self.place(g.id)) for g in self.general]


def _owner(item: Item) -> str:
    return min(item.id, item.premise_pair) if item.premise_pair else item.id


def read(path: str, scan: int | None = General.scan) -> Data:
    """Read what a path or a shipped pack's name stands for; a bare name is the shipped pack's, as in a study.

    Args:
        path: a pack, a file of items, a finished split, or general data.
        scan: rows of general data that are read at most; None reads all of them.

    Raises:
        UserError: nothing is there, or a line for each thing that is wrong with it.
    """
    root = Path(path).expanduser()
    shipped = sorted(p.name for p in packs.SHIPPED.iterdir() if (p / "persona.yaml").is_file())
    if path in shipped or (root / "persona.yaml").is_file():
        data = _pack(packs.folder(path))
        if path in shipped and root.exists():
            data.notes.append(f"this is the shipped pack {path}, not what is called so here; that is ./{path}")
        return data
    if root.is_dir():
        for folder in (root, root / "artifacts"):
            if all((folder / f"{part}.jsonl").is_file() for part in PARTS):
                return _split(folder, root.name)
        lacking = f"{path}: this folder has neither persona.yaml (a pack) nor train, dev and test.jsonl (a split)"
        if not data_files(root):
            raise UserError(f"{lacking} nor {', '.join(SUFFIXES)} files (general data)")
        try:
            return _general(root, scan)
        except UserError as error:
            raise UserError(f"{lacking}, and is no general data: {error}") from error
    if not root.is_file():
        raise UserError(
            f"{path}: no such pack or file{did_you_mean(path, shipped)} (shipped packs: {', '.join(shipped)})"
        )
    if root.suffix.lower() == ".parquet":
        return _general(root, scan)
    if root.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected a pack's folder, a split's folder, or a {', '.join(SUFFIXES)} file")
    first = next((row for _, row in rows(root) if isinstance(row, dict)), {})
    if "material" in first or ("item" in first and "analysis" in first):
        pack = root.absolute().parent.parent
        raise UserError(f"{path}: this is part of a pack; check the whole of it: persllm data check {pack}")
    if "pattern" in first:
        return _items(root)
    return _general(root, scan)


def _pack(root: Path) -> Data:
    found = packs.load(root, items=any(root.glob("*/items.jsonl")))
    log = reviews.load(root)
    settled = reviews.apply(found.items, found.reanswers, log)
    data = Data(root.name, "pack", root, found.card, found.materials, settled.items, settled.reanswers)
    data.places = found.places
    unnamed = sorted({path.parent.name for path in root.glob("*/*.txt")} - set(found.card.stages))
    if unnamed and found.card.source is None:
        data.notes.append(f"persona.yaml names no stage {', '.join(map(repr, unnamed))}: what lies there is not read")
    if log and found.items:
        counts = ", ".join(f"{count} {decision}" for decision, count in settled.counts.items() if count)
        data.notes.append(f"its {reviews.FILE} is applied, as a study does: {counts}")
    return data


def add_items(data: Data, artifacts: Path) -> None:
    """Add to a pack what a finished annotate step made of it."""
    for cls, name in ((Item, "items"), (Reanswer, "reanswers")):
        path = artifacts / f"{name}.jsonl"
        for where, row in records.read_json_lines(path):
            record = records.parse(cls, row, where)
            if isinstance(record, Item):
                data.items.append(record)
                data.places[record.id] = where
            else:
                data.reanswers.append(record)
                data.places[f"{record.item_id}@{record.stage}"] = where


def _records(cls: type[Any], path: Path, problems: Problems, found: list[tuple[int, Any]]) -> list[tuple[str, Any]]:
    made = []
    for number, row in found:
        told = records.faults(cls, row)
        for text in told:
            problems.add(path, number, text)
        if not told:
            made.append((f"{path}:{number}", cls(**row)))
    return made


def _add(data: Data, item: Item, path: Path, place: str, problems: Problems) -> None:
    if item.id in data.places:
        there = f"{data.places[item.id]}; ids must differ"
        problems.add(path, int(place.rpartition(":")[2]), f"id {item.id!r} stands already at {there}")
    data.places[item.id] = place
    data.items.append(item)


def _items(path: Path) -> Data:
    problems, data = Problems(), Data(path.name, "items", path.parent)
    for place, item in _records(Item, path, problems, problems.rows(path, "items, one a line") or []):
        _add(data, item, path, place, problems)
    problems.check()
    return data


def _split(folder: Path, name: str) -> Data:
    problems = Problems()
    data = Data(name, "split", folder, parts={})
    owner: dict[str, tuple[str, str]] = {}
    assert data.parts is not None
    for part in PARTS:
        path = folder / f"{part}.jsonl"
        for place, item in _records(Item, path, problems, problems.rows(path, "items") or []):
            known = owner.setdefault(item.material_id, (part, place))
            if known[0] != part:
                text = f"material {item.material_id} feeds {known[0]} too ({known[1]}); split by material, not by item"
                problems.add(path, int(place.rpartition(":")[2]), text)
            _add(data, item, path, place, problems)
            data.parts[item.id] = part
    path = folder / "reanswers.jsonl"
    again = _records(Reanswer, path, problems, problems.rows(path, "re-answers") or [])
    problems.check()
    data.reanswers = [made for _, made in again]
    data.places |= {f"{made.item_id}@{made.stage}": place for place, made in again}
    return data


def _general(path: Path, scan: int | None) -> Data:
    data = Data(path.name, "general", path.parent)
    found = rows(path)
    for place, row in islice(found, scan):
        made = first_turn(row)
        if made is Skip.unknown_columns and path.is_file() and not records.faults(GeneralItem, row):
            made = Turn(row["question"], row["response"])
            data.written += 1
        if isinstance(made, Skip):
            data.skipped[made.value] += 1
            continue
        name = f"general-{len(data.general)}"
        data.places[name] = place
        data.general.append(GeneralItem(id=name, question=made.question, response=made.answer, source=path.name))
    if data.skipped.total() + len(data.general) == scan and goes_on(found):
        data.notes.append(f"reading ended at general.scan={scan} rows; there are more")
    if not data.general:
        told = ", ".join(f"{reason} {count}" for reason, count in data.skipped.items()) or "the file is empty"
        first = next((row for _, row in rows(path) if isinstance(row, dict)), {})
        columns = ", ".join(sorted(map(str, first))) or "none"
        raise UserError(
            f"{path}: none of its rows can be used ({told}); found the columns {columns}; expected {EXPECTED}"
        )
    return data
