"""What difference a study could find, told before it runs. Imports no torch, nor numpy.

``persllm.statistics.power`` plans with clusters, seeds and variances where these are known.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persllm.plan import Plan


FEWEST = 5
"""Held-out items: below, no test could find anything."""


def held_out(plan: Plan) -> int:
    """Return about how many items are held out, over all personas."""
    return sum({cell.cell.persona: int(cell.generate.local["work"]) for cell in plan.cells}.values())


def power_line(plan: Plan) -> str:
    """Return the smallest paired difference that a study would find, in standard deviations of an item's difference.

    As if every item were a cluster of its own, before p-values are adjusted for several contrasts; how large that
    standard deviation is, only a finished study says (its column ``detectable``).
    """
    chosen = plan.resolved.config.compare
    items = held_out(plan)
    if items < FEWEST:
        return "power: too few held-out items to find any difference"
    normal = NormalDist()
    found = (normal.inv_cdf(1 - (1 - chosen.confidence) / 2) + normal.inv_cdf(chosen.power)) / items**0.5
    told = f"power: about {items} held-out items find a paired difference of {found:.2f} standard deviations"
    return f"{told} with {chosen.power:.0%} power"
