"""Texts that are the same, or nearly: duplicates within a data set, and leakage between its parts."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from persllm.checks.reading import Data, Text
from persllm.duplicates import greedy
from persllm.embeddings import embed
from persllm.neighbours import Neighbours, Rows
from persllm.parts import PARTS
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
            _keep(found.worst, (1.0, earlier.place, text.place))
    compared = distinct[:MOST]
    found.compared, found.left = len(compared), len(distinct) - len(compared)
    if len(compared) > 1:
        vectors = embed([text.text for text in compared], config.embedder)
        of, _ = greedy(vectors, _twins(compared), config.duplicate_cosine)
        for row in np.flatnonzero(of >= 0).tolist():
            found.near += 1
            cosine = float(vectors[row] @ vectors[of[row]])
            _keep(found.worst, (cosine, compared[int(of[row])].place, compared[row].place))
    found.worst.sort(reverse=True)
    return found


def _keep(worst: list[tuple[float, str, str]], one: tuple[float, str, str]) -> None:
    """Add to a heap of the greatest, which keeps ``WORST``."""
    if len(worst) < WORST:
        heapq.heappush(worst, one)
    else:
        heapq.heappushpop(worst, one)


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


def _parted(data: Data, config: Split) -> split.Parted:
    """Return the parts that are there, or those that the step split makes."""
    if data.parts is None:
        return split.parted(data.items, data.materials, config)
    there = data.parts
    parts = {name: [item for item in data.items if there[item.id] == name] for name in PARTS}
    return split.Parted(parts, {item.material_id: there[item.id] for item in data.items}, {}, {}, {}, {})


def leakage(data: Data, config: Split) -> Leakage:
    """Return what crosses from training to test, in the split that is there or that the configuration would make."""
    made = _parted(data, config)
    test, train, groups, held = made.parts["test"], made.parts["train"], made.groups, made.held
    counted = {name: len(items) for name, items in made.parts.items()}
    dropped = len(made.duplicates) + len(made.near_duplicates)
    found = Leakage(counted, dropped, sum(name != first for name, first in groups.items()), len(test))
    trained = {item.id for item in train}
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
            found.overlaps += [(shared, data.place(item.id), known[shared])][: WORST - len(found.overlaps)]
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
