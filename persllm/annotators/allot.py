"""Which item is asked for from which paragraph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from persllm.records import Material

PREFERRED = {"knowledge": "knowledge", "opinion": "speech", "premise": "knowledge"}


@dataclass(frozen=True)
class Slot:
    """An item to make, or a pair of premise twins."""

    id: str
    stage: str
    pattern: str
    """``knowledge``, ``opinion`` or ``premise``."""
    material: Material
    use: int = 0
    """How many items of this pattern the paragraph has given before."""


def allot(materials: list[Material], counts: dict[str, Any]) -> list[Slot]:
    """Return the slots of every stage: each pattern takes the least used paragraphs, of its own kind first.

    The paper cycles over all objective and then all subjective paragraphs until it has enough; so does this, but no
    paragraph is used twice before each was used once.

    Args:
        materials: all stages' paragraphs.
        counts: items per stage of each pattern.
    """
    slots = []
    for stage in dict.fromkeys(material.stage for material in materials):
        own = [material for material in materials if material.stage == stage]
        used: Counter[str] = Counter()
        given: Counter[tuple[str, str]] = Counter()
        for pattern, kind in PREFERRED.items():
            for number in range(1, counts[pattern] + 1):
                material = min(own, key=lambda m: (used[m.id], m.kind != kind, m.order))
                used[material.id] += 1
                use = given[pattern, material.id]
                given[pattern, material.id] += 1
                slots.append(Slot(f"{stage}-{pattern[0]}{number:03d}", stage, pattern, material, use))
    return slots
