"""Texts that are the same, or nearly: duplicates within a data set, and leakage between its parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from persllm.checks.reading import PARTS, Data, Text
from persllm.duplicates import greedy
from persllm.embeddings import embed
from persllm.neighbours import Neighbours, Rows
from persllm.records import Item
from persllm.schema import Split
from persllm.steps import split

WORST = 3
"""How many examples are kept of a kind."""
MOST = 20_000
"""Embeddings are compared among the first so many texts: computing one takes some 15 ms on a core."""
NGRAM = 8


@dataclass
class Duplicates:
    """Texts of a kind that say the same."""

    texts: int
    exact: int = 0
    """Texts equal to an earlier one but for case and spaces."""
    near: int = 0
    """Texts whose embedding is as near to an earlier one's as the threshold or nearer; the equal ones not counted."""
    compared: int = 0
    """How many texts were embedded."""
    left: int = 0
    """How many texts were not, being more than MOST."""
    worst: list[tuple[float, str, str]] = field(default_factory=list)
    """Cosine and places, the most alike first."""


def plain(text: str) -> str:
    """Return a text without case and with single spaces."""
    return " ".join(text.casefold().split())


def duplicates(texts: Sequence[Text], config: Split) -> Duplicates:
    """Return which texts repeat an earlier one; twins, which share an owner, may."""
    found = Duplicates(len(texts))
    first: dict[str, Text] = {}
    distinct: list[Text] = []
    for text in texts:
        earlier = first.setdefault(plain(text.text), text)
        if earlier is text:
            distinct.append(text)
        elif not (text.owner and text.owner == earlier.owner):
            found.exact += 1
            found.worst.append((1.0, earlier.place, text.place))
    compared = distinct[:MOST]
    found.compared, found.left = len(compared), len(distinct) - len(compared)
    if len(compared) > 1:
        vectors = embed([text.text for text in compared], config.embedder)
        of, _ = greedy(vectors, _twins(compared), config.duplicate_cosine)
        for row in np.flatnonzero(of >= 0).tolist():
            found.near += 1
            cosine = float(vectors[row] @ vectors[of[row]])
            found.worst.append((cosine, compared[int(of[row])].place, compared[row].place))
    found.worst = sorted(found.worst, reverse=True)[:WORST]
    return found


def _twins(texts: Sequence[Text]) -> Rows:
    met: dict[str, int] = {}
    twins = np.arange(len(texts))
    for row, text in enumerate(texts):
        other = met.setdefault(text.owner, row) if text.owner else row
        twins[row], twins[other] = other, row
    return twins


@dataclass
class Leakage:
    """What training texts say of held-out items."""

    items: dict[str, int]
    """Items of each part, after the near-duplicates were dropped."""
    dropped: int
    """Items that the split would drop as duplicates, or because their question nearly is one of a later part."""
    tied: int
    """Paragraphs that the split would keep with another one, which they nearly repeat."""
    held: int
    """Held-out (test) items."""
    overlapping: int = 0
    """Held-out items whose question or response shares eight words in a row with a text of training."""
    overlaps: list[tuple[str, str, str]] = field(default_factory=list)
    """The words, the held-out place, the place in training."""
    nearest: float | None = None
    """The greatest cosine between a held-out question and one of training; None where a part is empty."""
    nearest_median: float | None = None
    nearest_places: tuple[str, str] | None = None
    """The held-out place and the one in training."""


def _grams(text: str) -> list[str]:
    words = re.findall(r"\w+", text.casefold())
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def _parts(data: Data, config: Split) -> tuple[dict[str, list[Item]], int, dict[str, str], dict[str, str]]:
    """Return what the step split makes: the parts' items, how many are dropped, each paragraph's group and part.

    A paragraph has a part where an item was written from it, be that item dropped later.
    """
    if data.parts is not None:
        there = data.parts
        parts = {name: [item for item in data.items if there[item.id] == name] for name in PARTS}
        return parts, 0, {}, {item.material_id: there[item.id] for item in data.items}
    vectors = embed([item.question for item in data.items], config.embedder)
    dropped, _ = split.drop_duplicates(data.items, vectors, config.duplicate_cosine)
    kept = np.array([item.id not in dropped for item in data.items], bool)
    items, vectors = [item for item in data.items if item.id not in dropped], vectors[kept]
    groups: dict[str, str] = {}
    if data.materials:
        texts = embed([material.text for material in data.materials], config.embedder)
        groups, _ = split.tie(data.materials, texts, config.leak_cosine)
    part = split.assign(items, config.test, config.dev, config.seed, groups)
    leaking, _ = split.near_duplicates(items, part, vectors, config.leak_cosine)
    left = [item for item in items if item.id not in leaking]
    parts = {name: [item for item in left if part[item.material_id] == name] for name in PARTS}
    return parts, len(data.items) - len(left), groups, part


def leakage(data: Data, config: Split) -> Leakage:
    """Return what crosses from training to test, in the split that is there or that the configuration would make."""
    parts, dropped, groups, part = _parts(data, config)
    test, train = parts["test"], parts["train"]
    counted = {name: len(items) for name, items in parts.items()}
    found = Leakage(counted, dropped, sum(name != first for name, first in groups.items()), len(test))
    trained = {item.id for item in train}
    held = {groups.get(material, material) for material, name in part.items() if name != "train"}
    known: dict[str, str] = {}
    learned = [(text, data.place(item.id)) for item in train for text in (item.question, item.response)]
    learned += [(a.response, data.place(f"{a.item_id}@{a.stage}")) for a in data.reanswers if a.item_id in trained]
    learned += [(m.text, data.place(m.id)) for m in data.materials if groups.get(m.id, m.id) not in held]
    for text, place in learned:
        for gram in _grams(text):
            known.setdefault(gram, place)
    for item in test:
        shared = next((g for t in (item.question, item.response) for g in _grams(t) if g in known), None)
        if shared:
            found.overlapping += 1
            found.overlaps.append((shared, data.place(item.id), known[shared]))
    found.overlaps = found.overlaps[:WORST]
    if test and train:
        here = embed([item.question for item in test[:MOST]], config.embedder)
        there = embed([item.question for item in train[:MOST]], config.embedder)
        index = Neighbours(there)
        index.add(np.arange(len(there)))
        rows, best = (made[:, 0] for made in index.search(here, 1))
        row = int(best.argmax())
        found.nearest, found.nearest_median = float(best[row]), float(np.median(best))
        found.nearest_places = data.place(test[row].id), data.place(train[int(rows[row])].id)
    return found
