"""Which steps of a study go into which job array. Pure: asks neither Slurm nor the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from persllm.nodes import Step

PREPARE = ("materials", "annotate", "split", "pairs")
"""Seconds each, on a CPU: a job of its own would wait longer in the queue than it works."""
ENDING = "compare"
"""The name of the last array, whose one element compares and reports."""


@dataclass(frozen=True)
class Array:
    """A job array: elements of one resource shape that may run side by side."""

    name: str
    shape: str
    """``prepare`` (no GPU), ``train`` (the geometry of ``strategy``) or ``infer`` (one GPU)."""
    elements: list[list[str]]
    """Ids of the steps that each element runs, in order."""
    after: list[str] = field(default_factory=list)
    """Names of the arrays that must have ended before this one begins."""
    behind: list[str] = field(default_factory=list)
    """Job ids of earlier submissions that must have ended, too."""


def shape_of(step: Step) -> str:
    """Return a step's resource shape."""
    return "prepare" if step.name in PREPARE else "train" if step.name == "train" else "infer"


def arrays(
    steps: Sequence[Step],
    ending: str,
    queued: Mapping[str, str],
    longest: int,
    behind: Mapping[str, str] | None = None,
) -> list[Array]:
    """Cut steps into arrays: one per shape and level, the level being the longest way up from what is done.

    Args:
        steps: what to send, each after its inputs.
        ending: the element that compares and reports, after everything else.
        queued: the job that runs it, for each step that an earlier submission has in the queue.
        longest: how many elements Slurm allows in one array.
        behind: the living job of an earlier submission that a step itself must wait for.

    Returns:
        The arrays, each after those that it waits for; the last one holds ``ending`` alone.
    """
    groups: dict[tuple[str, int], list[list[str]]] = {}
    prepared = [step for step in steps if step.name in PREPARE]
    if prepared:
        groups["prepare", 0] = components(prepared)
    for step, level in levels(steps).items():
        if step.name not in PREPARE:
            groups.setdefault((shape_of(step), level), []).append([step.id])
    known, made, home = {step.id: step for step in steps}, [], {}
    for (shape, level), elements in sorted(groups.items(), key=lambda entry: entry[0][1]):
        for number, start in enumerate(range(0, len(elements), longest), 1):
            part = elements[start : start + longest]
            name = f"{shape}-{level}" + (f"-{number}" if len(elements) > longest else "")
            home |= {id: name for element in part for id in element}
            made.append(_array(name, shape, part, known, home, queued, behind or {}))
    everything = [array.name for array in made]
    jobs = sorted({*queued.values(), *(behind or {}).values()}, key=int)
    return [*made, Array(ENDING, "prepare", [[ending]], everything, jobs)]


def _array(
    name: str,
    shape: str,
    elements: list[list[str]],
    known: Mapping[str, Step],
    home: Mapping[str, str],
    queued: Mapping[str, str],
    behind: Mapping[str, str],
) -> Array:
    needed = [s.id for element in elements for id in element for s in known[id].inputs.values()]
    homes = {home[id] for id in needed if id in home} - {name}
    after = [name for name in dict.fromkeys(home.values()) if name in homes]
    jobs = {queued[id] for id in needed if id in queued}
    jobs |= {behind[id] for element in elements for id in element if id in behind}
    return Array(name, shape, elements, after, sorted(jobs, key=int))


def levels(steps: Sequence[Step]) -> dict[Step, int]:
    """Return each step's level: how many arrays must end before its own; the steps of ``PREPARE`` chain for free."""
    found: dict[str, int] = {}
    for step in steps:
        below = [found[s.id] for s in step.inputs.values() if s.id in found]
        found[step.id] = 0 if step.name in PREPARE else 1 + max(below, default=-1)
    return {step: found[step.id] for step in steps}


def components(steps: Sequence[Step]) -> list[list[str]]:
    """Return the ids of steps in groups that need nothing of each other, each in the order given."""
    group: dict[str, list[str]] = {}
    for step in steps:
        joined = [step.id]
        for part in {id(g): g for s in step.inputs.values() if (g := group.get(s.id)) is not None}.values():
            joined = [*part, *joined]
        group |= dict.fromkeys(joined, joined)
    order = {step.id: number for number, step in enumerate(steps)}
    return [sorted(g, key=order.__getitem__) for g in {id(g): g for g in group.values()}.values()]
