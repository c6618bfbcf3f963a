"""Items whose paragraph says little of what they say, beside another one of the same stage and kind.

Only words are counted, rare ones for more: a hint that a link names the wrong paragraph, no proof. Measured on the
shipped packs: of 12 premise items that had been linked to other paragraphs by mistake all were found, and of their
1,200 items 2 are named now.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from persllm.checks.reading import Data
from persllm.records import Material

LEAST = 0.35
"""A link is likely wrong where its paragraph has less than this share of what the best one has."""


@dataclass(frozen=True)
class Link:
    """An item that another paragraph fits far better."""

    place: str
    """Of the item."""
    share: float
    """What its paragraph has in common with it, as a share of what the best one has."""
    best: str
    """The place of that one."""


class _Paragraphs:
    """One stage's paragraphs of one kind, by their words."""

    def __init__(self, paragraphs: list[Material]) -> None:
        self._holding: dict[str, list[str]] = defaultdict(list)
        for paragraph in paragraphs:
            for word in sorted(_words(paragraph.text)):
                self._holding[word].append(paragraph.id)
        self._weight = {word: math.log(len(paragraphs) / len(ids)) for word, ids in self._holding.items()}

    def common(self, words: set[str]) -> Counter[str]:
        """Return, by paragraph, the weights of the words that it shares, summed."""
        found: Counter[str] = Counter()
        for word in sorted(words & self._weight.keys()):
            for name in self._holding[word]:
                found[name] += self._weight[word]  # type: ignore[assignment]
        return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def doubtful(data: Data) -> list[Link]:
    """Return a pack's items whose paragraph has less than LEAST of what the best one of its stage and kind has.

    What is compared are the words of question and response, and of its twin's: twins share a paragraph. A word weighs
    the logarithm of all paragraphs over those that hold it.
    """
    by_id = {material.id: material for material in data.materials}
    groups: dict[tuple[str, str], list[Material]] = defaultdict(list)
    for material in data.materials:
        groups[material.stage, material.kind].append(material)
    paragraphs = {key: _Paragraphs(group) for key, group in groups.items()}
    said = {item.id: _words(f"{item.question} {item.response}") for item in data.items}
    found = []
    for item in data.items:
        own = by_id[item.material_id]
        common = paragraphs[own.stage, own.kind].common(said[item.id] | said.get(item.premise_pair or "", set()))
        best = max(common, key=lambda name: common[name], default=own.id)
        if common[own.id] < LEAST * common[best]:
            found.append(Link(data.place(item.id), common[own.id] / common[best], data.place(best)))
    return found


def warnings(data: Data) -> list[str]:
    """Return a sentence that counts the doubtful links and names the first five; nothing for what is no pack."""
    found = doubtful(data) if data.kind == "pack" else []
    if not found:
        return []
    places = ", ".join(f"{link.place} ({link.best} fits better)" for link in found[:5])
    more = f", and {len(found) - 5} more" if len(found) > 5 else ""
    return [f"items whose paragraph may be the wrong one: {len(found)}, at {places}{more}"]
