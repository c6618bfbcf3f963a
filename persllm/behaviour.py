"""What an arm would do: situations with two courses of action, and claims to agree with or not.

Read off the log-likelihood per token of two answers of nearly equal length, each situation put alone; the answers are
never shown, so that no order of theirs can matter.
"""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from persllm.cards import BIG_FIVE
from persllm.probes import Probe, Subject, Told, data
from persllm.stances import lean


def probes(subject: Subject) -> list[Probe]:
    """Return at every stage each situation, and each claim with its contrary: half as many pairs as a limit says."""
    rows, pairs, found = data("behaviour.jsonl"), data("claims.jsonl"), []
    few = pairs if subject.limit is None else pairs[: max(1, subject.limit // 2)]
    for stage in subject.card.stages:
        for trait in BIG_FIVE:
            for row in subject.few([row for row in rows if row["trait"] == trait]):
                seen = {"part": "behaviour", "trait": trait, "situation": row["id"]}
                found.append(_probe(stage, row["id"], row["id"], row["question"], [row["high"], row["low"]], seen))
        for row in few:
            for side in ("claim", "contrary"):
                name, seen = f"{row['id']}-{side}", {"part": "claim", "claim": row["id"]}
                found.append(_probe(stage, name, row["id"], row[side], [row["agree"], row["disagree"]], seen))
    return found


def _probe(stage: str, name: str, cluster: str, question: str, options: list[str], seen: dict[str, str]) -> Probe:
    return Probe(
        id=f"{stage}-{name}",
        stage=stage,
        cluster=cluster,
        turns=[question],
        options=[options],
        closing=False,
        seen=seen,
    )


def leans(told: list[Told], stage: str) -> dict[str, float]:
    """Return for each trait how much likelier its actions are than their opposites, nats per token; means."""
    found: dict[str, list[float]] = {}
    for one in told:
        gain = lean(one.likelihoods())
        if one.probe.seen.get("part") == "behaviour" and one.probe.stage == stage and gain is not None:
            found.setdefault(one.probe.seen["trait"], []).append(gain)
    return {trait: fmean(values) for trait, values in found.items()}


class Disagreement(NamedTuple):
    """How an arm takes claims and their contraries."""

    share: float
    """Of both, how many it rather disagrees with; a tie is half."""
    lean: float
    """How much likelier disagreeing is, nats per token, mean; what a reply's wording is worth cancels only between arms
    and stages."""


def disagreement(told: list[Told], stage: str) -> Disagreement | None:
    """Return how far an arm disagrees at a stage; None where nothing was claimed."""
    gains = [
        -gain
        for one in told
        if one.probe.seen.get("part") == "claim" and one.probe.stage == stage
        for gain in (lean(one.likelihoods()),)
        if gain is not None
    ]
    if not gains:
        return None
    return Disagreement(fmean(0.5 * (gain >= 0) + 0.5 * (gain > 0) for gain in gains), fmean(gains))
