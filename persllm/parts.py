"""Which part of a split each paragraph, and so its items, belongs to."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from persllm.records import Item

PARTS = ("train", "dev", "test")


def assign(
    items: list[Item], test: float, dev: float, seed: int, groups: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the part of each material that has items.

    Within each stage and pattern group the materials are ordered by a hash of seed and id; the first
    ``round(test * n)`` are test, the next ``round(dev * n)`` dev, and of three materials at least one is each. A twin
    pair shares its material and so its part.

    Args:
        items: all items.
        test: share of the materials for test.
        dev: share for dev.
        seed: another one gives another split.
        groups: each material's group; all of a group follow the first (by id) that has items. None ties nothing.
    """
    patterns: dict[str, set[str]] = defaultdict(set)
    stages: dict[str, str] = {}
    for item in items:
        patterns[item.material_id].add("premise" if item.premise_pair else item.pattern)
        stages[item.material_id] = item.stage
    groups = groups or {}
    first: dict[str, str] = {}
    for material in sorted(patterns):
        first.setdefault(groups.get(material, material), material)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for material in first.values():
        strata[(stages[material], *sorted(patterns[material]))].append(material)
    part = {}
    for stratum in strata.values():
        stratum.sort(key=lambda material: hashlib.sha256(f"{seed}:{material}".encode()).digest())
        least = int(len(stratum) >= len(PARTS))
        held = min(max(least, round(test * len(stratum))), len(stratum) - 2 * least)
        tune = min(max(least, round(dev * len(stratum))), len(stratum) - held - least)
        for place, material in enumerate(stratum):
            part[material] = "test" if place < held else "dev" if place < held + tune else "train"
    return {material: part[first[groups.get(material, material)]] for material in patterns}
