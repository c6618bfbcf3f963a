"""Persona packs: a folder with persona.yaml and, per stage, materials and recorded items.

PACK/persona.yaml            name, identity, profile, stages: {early: {label, summary}, ...}; see persllm.cards
PACK/STAGE/knowledge.txt     objective paragraphs, one a line, optionally after a ``[source]`` tag
PACK/STAGE/speech.txt        subjective paragraphs
PACK/STAGE/items.jsonl       recorded items (annotator ``recorded``); ``material`` and ``retrieved`` are ``KIND/NUMBER``
PACK/STAGE/reanswers.jsonl   this stage's answers to the other stages' items
PACK/TEXT                    where persona.yaml has ``source``: one long text instead of knowledge.txt and speech.txt
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path

from persllm import cards, pack_items, pack_probes, reviews
from persllm.cards import Card, Source, Stage, Trait
from persllm.errors import UserError, did_you_mean
from persllm.identity import tree_sha256
from persllm.problems import Problems
from persllm.records import KINDS, Item, Material, Reanswer

__all__ = ["FILES", "SHIPPED", "Card", "Found", "Source", "Stage", "Trait", "check_source", "folder", "load"]
__all__ += ["load_card", "load_items", "load_materials", "look", "require_unchanged", "sha256"]

SHIPPED = Path(__file__).parent / "personas"
FILES = ("persona.yaml", "*.txt", "*.jsonl", "*/*.txt", "*/*.jsonl")
"""What a pack is made of: its card, long text, paragraphs, items and re-answers, and reviews; not its probes, from
which nothing is trained (see ``persllm.pack_probes``)."""


def sha256(root: Path) -> str:
    """Return the hex sha256 of a pack's content; its reviews are no part of it (see ``persllm.reviews.effect``)."""
    return tree_sha256(root, FILES, without=(reviews.FILE, *pack_probes.NAMES))


def require_unchanged(root: Path, planned: str) -> None:
    """Raise where a pack is not what a study was planned with.

    Raises:
        UserError: its content has another sha256 than ``planned``.
    """
    if sha256(root) != planned:
        raise UserError(f"{root}: the pack changed after this study was planned; run the same command again")


def folder(pack: str) -> Path:
    """Return a pack's folder: a shipped pack by name, or any folder by path.

    Raises:
        UserError: no such pack, or the folder has no persona.yaml.
    """
    shipped = sorted(p.name for p in SHIPPED.iterdir() if p.is_dir())
    path = SHIPPED / pack if pack in shipped else Path(pack).expanduser()
    if not path.is_dir():
        raise UserError(
            f"persona.pack={pack}: no such pack{did_you_mean(pack, shipped)} (shipped: {', '.join(shipped)})"
        )
    if not (path / "persona.yaml").is_file():
        raise UserError(
            f"{path}: no persona.yaml in this folder; a pack needs one with name, identity, profile, stages"
        )
    return path


@dataclass
class Found:
    """What a pack holds, as far as it can be read."""

    card: Card
    materials: list[Material] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    reanswers: list[Reanswer] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    """``file:line`` of each material and item by id, and of each re-answer by ``id@stage``."""


def _chosen(card: Card, root: Path, stages: list[str] | None) -> Card:
    for name in stages or ():
        if name not in card.stages:
            raise UserError(
                f"persona.stages: {root.name} has no stage {name!r}{did_you_mean(name, card.stages)}; "
                f"it has {', '.join(card.stages)}"
            )
    kept: dict[str, Stage] = {}
    before: list[str] = []
    for name, stage in card.stages.items():
        before += stage.timeline
        if stages is None or name in stages:
            # A stage that is left out has happened all the same.
            kept[name] = dataclasses.replace(stage, timeline=before)
            before = []
    return dataclasses.replace(card, stages=kept)


def load_card(root: Path, stages: list[str] | None = None) -> Card:
    """Read and check persona.yaml.

    Args:
        root: the pack's folder.
        stages: a subset of its stages, or None for all.

    Raises:
        UserError: a line for each thing that is wrong with it.
    """
    problems = Problems()
    card = cards.read(root / "persona.yaml", problems)
    problems.check()
    assert card is not None
    return _chosen(card, root, stages)


def load_materials(root: Path, card: Card) -> list[Material]:
    """Read every stage's paragraphs in file order, or make them from the pack's one long text.

    Raises:
        UserError: a line for each folder, file or paragraph that is missing or wrong.
    """
    problems, found = Problems(), Found(card)
    _materials(root, found, problems)
    problems.check()
    return found.materials


def load_items(root: Path, card: Card, materials: list[Material]) -> tuple[list[Item], list[Reanswer]]:
    """Read the recorded items and re-answers, with their links checked.

    Raises:
        UserError: a line for each bad line, and for each link to no material, twin or item.
    """
    problems, found = Problems(), Found(card, materials)
    pack_items.read(root, found, problems, set())
    problems.check()
    return found.items, found.reanswers


def load(root: Path, stages: list[str] | None = None, items: bool = True) -> Found:
    """Read a whole pack.

    Args:
        root: its folder.
        stages: a subset of its stages, or None for all.
        items: whether the recorded items are read, and must be there.

    Raises:
        UserError: a line for each thing that is wrong anywhere in the pack.
    """
    found, problems = look(root, stages, items)
    problems.check()
    assert found is not None
    return found


def look(root: Path, stages: list[str] | None = None, items: bool = True) -> tuple[Found | None, Problems]:
    """Read what can be read of a pack and collect what is wrong; arguments as in ``load``."""
    problems = Problems()
    card = cards.read(root / "persona.yaml", problems)
    if card is None:
        # The paragraphs can be looked at all the same: what is wrong with them is told in one go.
        holding = sorted({path.parent.name for path in root.glob("*/*") if path.suffix in (".txt", ".jsonl")})
        card = Card("", "", "", {name: Stage("", "") for name in holding})
    elif not len(problems):
        card = _chosen(card, root, stages)
    found = Found(card)
    unread = _materials(root, found, problems)
    if items:
        pack_items.read(root, found, problems, unread)
    return found, problems


def check_source(root: Path, card: Card) -> None:
    """Check quickly, without making materials of it, that a pack's one long text is there and can be read.

    Raises:
        UserError: it is missing, empty or no UTF-8 text.
    """
    problems = Problems()
    _source(root, card, problems)
    problems.check()


def _source(root: Path, card: Card, problems: Problems) -> bool:
    """Check the one long text; return whether there is one to read."""
    assert card.source is not None
    there = [
        path for stage in card.stages for kind in KINDS if (path := root / stage / f"{kind}.txt").is_file()
    ]  # Would be passed over in silence.
    for path in there:
        problems.add(path, None, f"this pack's materials come from {card.source.file}; remove this file or `source`")
    if not card.source.file:
        return False
    path = root / card.source.file
    if problems.text(path, f"the {card.source.form} that persona.yaml names as its source") is None:
        return False
    return card.source.form != "chat" or problems.rows(path, "one JSON object a line") is not None


def _materials(root: Path, found: Found, problems: Problems) -> set[tuple[str, str]]:
    """Read the paragraphs; return the stages and kinds that could not be read."""
    if found.card.source is not None:
        if not _source(root, found.card, problems) or len(problems):
            return {(stage, kind) for stage in found.card.stages for kind in KINDS}
        from persllm.ingest import ingest

        found.materials += ingest(root, found.card)
        found.places |= {material.id: material.source for material in found.materials}
        return set()
    unread: set[tuple[str, str]] = set()
    met: dict[str, str] = {}
    for stage in found.card.stages:
        if not (root / stage).is_dir():
            beside = [p.name for p in root.iterdir() if p.is_dir()]
            text = f"no folder for stage {stage!r}, which persona.yaml names; make it or remove the stage"
            problems.add(root / stage, None, f"{text}{did_you_mean(stage, beside)}")
            unread |= {(stage, kind) for kind in KINDS}
            continue
        for kind in KINDS:
            path = root / stage / f"{kind}.txt"
            lines = problems.lines(path, f"{kind} paragraphs, one a line")
            if lines is None:
                unread.add((stage, kind))
            for order, (number, line) in enumerate(lines or (), 1):
                material = _material(root, stage, kind, order, line)
                found.materials.append(material)
                found.places[material.id] = f"{path}:{number}"
                fault = _fault(line, material.text, met)
                if fault:
                    problems.add(path, number, fault)
                met.setdefault(_plain(material.text), f"{path}:{number}")
    return unread


_TAG = re.compile(r"^\[([^\[\]]{1,80})\]\s+(?=\S)")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _fault(line: str, text: str, met: dict[str, str]) -> str:
    if line.startswith("[") and text == line:
        return "the source tag is malformed; expected [source] of at most 80 characters, a space, the paragraph"
    if _plain(text) in met:
        return f"this paragraph stands already at {met[_plain(text)]}; remove one of the two"
    return ""


def _material(root: Path, stage: str, kind: str, order: int, line: str) -> Material:
    tag = _TAG.match(line)
    return Material(
        id=material_id(root, stage, kind, order),
        persona=root.name,
        stage=stage,
        kind=kind,
        order=order,
        text=line[tag.end() :] if tag else line,
        source=tag.group(1) if tag else f"{stage}/{kind}.txt:{order}",
    )


def material_id(root: Path, stage: str, kind: str, order: int) -> str:
    """Return the id of a stage's ``order``-th paragraph of a kind, from 1."""
    return f"{root.name}-{stage}-{kind}-{order:03d}"
