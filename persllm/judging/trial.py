"""What a judge is tried on: planted answers to score, known pairs to choose from, speakers to find."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from persllm.judging import PATTERNS
from persllm.judging.bench import Bench, Case, Duel, Riddle
from persllm.judging.certificate import Trial
from persllm.judging.planted import answers, drawn, nearest, padded, plants, shortened
from persllm.packs import Card
from persllm.records import Item

PADS = ("", "one", "other")


@dataclass(frozen=True)
class Persona:
    """What the judge is tried on, and what it judges by."""

    card: Card
    others: list[Card]
    """Characters that a riddle shows beside."""
    items: list[Item]
    """Recorded, of all parts: the judge was trained on none."""
    held: list[Item]
    rivals: list[Item]
    """Recorded items of other personas."""
    elsewhere: dict[str, str]
    """The other stage's answer, by item."""
    rows: dict[str, dict[str, list[dict[str, Any]]]]
    """Its probe files (see persllm.pack_probes)."""


def tried(bench: Bench, about: Persona, config: dict[str, Any]) -> Trial:
    """Put everything to the judge whose truth is known.

    Args:
        bench: where the judge is.
        about: the persona.
        config: the step's: certificate, embedder, other_family.
    """
    limit, embedder = config["certificate"]["items"], config["embedder"]
    planted = plants(about.items, about.rivals, about.elsewhere, about.rows, limit, embedder)
    cases = [Case(one.id, one.kind, one.question, one.reference, one.candidate) for one in planted]
    gold = drawn([item for item in about.items if item.pattern in PATTERNS], limit, "trial")
    duels, pads = _known_duels(gold, about.rivals, embedder)
    more, their = _worded_duels(limit)
    riddles, speakers = _riddles(gold, about)
    return Trial(
        plants=planted,
        scores=bench.scores("planted", cases),
        duels=bench.duels("known pair", [*duels, *more]),
        pads=pads | their,
        roles=bench.roles(riddles),
        speakers=speakers,
        characters=1 + len(about.others),
        other_family=config["other_family"],
    )


def _known_duels(gold: list[Item], rivals: list[Item], embedder: str) -> tuple[list[Duel], dict[str, str]]:
    """Return pairs of which the first is nearer to the recorded answer, and which side of each is padded.

    The first is that answer's beginning, where it has one, so that it is no mere copy.
    """
    duels, pads = [], {}
    others = nearest(gold, rivals, embedder) if gold and rivals else []
    for place, (item, rival) in enumerate(zip(gold, others, strict=False)):
        pad = PADS[place % len(PADS)]
        one, other = shortened(item.response) or item.response, rival.response
        one, other = padded(one) if pad == "one" else one, padded(other) if pad == "other" else other
        duels.append(Duel(f"{item.id}/pair", item.question, item.response, one, other))
        pads[f"{item.id}/pair"] = pad
    return duels, pads


def _worded_duels(limit: int) -> tuple[list[Duel], dict[str, str]]:
    """Return pairs of which the first says what the reference says, and the second has its words; and their pads."""
    duels, pads = [], {}
    for place, row in enumerate(answers(limit)):
        pad, name = PADS[place % len(PADS)], f"{row['id']}/pair"
        one = padded(row["same"]) if pad == "one" else row["same"]
        other = padded(row["wrong"]) if pad == "other" else row["wrong"]
        duels.append(Duel(name, row["question"], row["reference"], one, other))
        pads[name] = pad
    return duels, pads


def _described(card: Card, stage: str) -> str:
    when = card.stages[stage]
    return f"{card.identity}. {card.profile} It is {when.label}. {when.summary}"


def _riddles(gold: list[Item], about: Persona) -> tuple[list[Riddle], dict[str, int]]:
    """Return who-said-it questions, the characters of each in an order of its own, and the true speaker's place."""
    riddles, speakers = [], {}
    for item in gold:
        texts = [_described(about.card, item.stage)]
        for card in about.others:
            stages = list(card.stages)
            texts.append(_described(card, stages[int(sha256(item.id.encode()).hexdigest(), 16) % len(stages)]))
        order = sorted(range(len(texts)), key=lambda n: sha256(f"{item.id}:{n}".encode()).hexdigest())
        name = f"{item.id}/role"
        riddles.append(Riddle(name, [texts[n] for n in order], item.question, item.response))
        speakers[name] = order.index(0)
    return riddles, speakers
