"""Answers whose true label is known, by which a judge is tried before its numbers count.

Nobody labelled them by hand: each label follows from how the answer was made, and only kinds of which that is sure have
one. Scored from 0 to 5 against the recorded answer to the same question:

    same        5   the recorded answer itself
    padded      5   the same after a preamble that says nothing: length must not count
    shortened   3   its first half (knowledge only): part of the facts, none of them wrong
    other       0   another character's answer to the nearest question (knowledge only: views may agree by chance)
    padded other 0  the same after the preamble
    refusal     0   nobody's answer
    swallowed   0   premises.jsonl: the reply that goes along with a false premise or denies a true one, against the
                    reply that does right (knowledge)
    flipped     0   stances.jsonl: the reply that holds the opposite opinion, against the one that keeps it (attitude)
    padded flipped 0 the same after the preamble
    reworded    5   planted_answers.jsonl: the same in other words, few of them the reference's
    echoed      0   planted_answers.jsonl: the reference's own words, but denied or with one fact changed
    padded echoed 0 the same after the preamble
    other stage -   the other stage's answer to the same question: what has changed in between varies, so it has no
                    label; its mean score is told, and should lie below that of the recorded answer

Long and short answers are about as often right as wrong, so a judge that goes by length agrees with nothing. Nor does
one that counts the words that an answer has in common with the reference: planted_answers.jsonl, which is ours and the
same for every persona (about facts of the shipped ones), sets the two against each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from persllm.embeddings import embed
from persllm.judging import PADDING, PATTERNS, SCALE
from persllm.probes import data
from persllm.records import Item

REFUSAL = "I am sorry, but I cannot help with that."
PART = 3
"""The label of half an answer."""
WORDINGS = ("reworded", "echoed", "padded echoed")
"""The kinds that tell meaning from words."""


@dataclass(frozen=True)
class Plant:
    """An answer to score against a reference."""

    id: str
    kind: str
    """``knowledge`` or ``attitude``."""
    what: str
    """As in this module's list."""
    cluster: str
    """The item or the line of a probe file that it was made of."""
    question: str
    reference: str
    candidate: str
    label: int | None


def padded(text: str) -> str:
    """Return an answer after a preamble that says nothing."""
    return f"{PADDING} {text}"


def shortened(text: str) -> str | None:
    """Return the first half of an answer's sentences; None where it has only one."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    return " ".join(sentences[: len(sentences) // 2]) if len(sentences) > 1 else None


def drawn(items: list[Item], count: int | None, salt: str = "") -> list[Item]:
    """Return at most ``count`` items, always the same ones whatever their order."""
    return sorted(items, key=lambda item: sha256(f"{salt}{item.id}".encode()).hexdigest())[:count]


def nearest(items: list[Item], others: list[Item], embedder: str) -> list[Item]:
    """Return, for each item, the other persona's item whose question is nearest."""
    own, their = (embed([item.question for item in some], embedder) for some in (items, others))
    return [others[place] for place in np.argmax(own @ their.T, axis=1).tolist()]


def _of_item(item: Item, kind: str, place: int, other: str | None, elsewhere: str | None) -> list[tuple[str, Any, Any]]:
    """Return (what, candidate, label): one answer that is right, one that is not, each kind in turn, and the other's.

    One of each keeps the number of calls small; over the items all kinds come up equally often.
    """
    right = [("same", item.response, SCALE), ("padded", padded(item.response), SCALE)]
    wrong: list[tuple[str, Any, Any]] = [("refusal", REFUSAL, 0)]
    if kind == "knowledge":
        half = shortened(item.response)
        right += [("shortened", half, PART)] if half else []
        if other is not None:
            wrong = [("other", other, 0), ("padded other", padded(other), 0), *wrong]
    found: list[tuple[str, Any, Any]] = [right[place % len(right)], wrong[place % len(wrong)]]
    return [*found, ("other stage", elsewhere, None)] if elsewhere is not None else found


def plants(
    items: list[Item],
    others: list[Item],
    elsewhere: dict[str, str],
    rows: dict[str, dict[str, list[dict[str, Any]]]],
    limit: int,
    embedder: str,
) -> list[Plant]:
    """Return a persona's planted answers.

    Args:
        items: its recorded items, of all parts: the judge has been trained on none of them.
        others: those of the other personas.
        elsewhere: the other stage's answer to an item, by item id.
        rows: its probe files (see persllm.pack_probes).
        limit: how many items of each pattern, and lines of each probe file, are used.
        embedder: see persllm.embeddings.
    """
    found = []
    for pattern, kind in PATTERNS.items():
        own = drawn([item for item in items if item.pattern == pattern], limit, "plant")
        rivals = nearest(own, others, embedder) if own and others else []
        for place, item in enumerate(own):
            other = rivals[place].response if rivals else None
            for what, text, label in _of_item(item, kind, place, other, elsewhere.get(item.id)):
                name = f"{item.id}/{what}"
                found.append(Plant(name, kind, what, item.id, item.question, item.response, text, label))
    return [*found, *_stances(rows, limit), *_premises(rows, limit), *_wordings(limit)]


def _lines(rows: dict[str, dict[str, list[dict[str, Any]]]], kind: str, limit: int) -> list[dict[str, Any]]:
    every = [row for found in rows.get(kind, {}).values() for row in found]
    return sorted(every, key=lambda row: sha256(f"plant{row['id']}".encode()).hexdigest())[:limit]


def _stances(rows: dict[str, dict[str, list[dict[str, Any]]]], limit: int) -> list[Plant]:
    found = []
    for place, row in enumerate(_lines(rows, "stances", limit)):
        keep = ("padded", padded(row["keep"]), SCALE)
        flips = [("flipped", row["flip"], 0), ("padded flipped", padded(row["flip"]), 0)]
        for what, text, label in (keep, flips[place % 2]):
            name = f"{row['id']}/{what}"
            found.append(Plant(name, "attitude", what, row["id"], row["question"], row["keep"], text, label))
    return found


def _premises(rows: dict[str, dict[str, list[dict[str, Any]]]], limit: int) -> list[Plant]:
    found = []
    for place, row in enumerate(_lines(rows, "premises", limit)):
        side = ("false", "true")[place % 2]
        name = f"{row['id']}-{side}/swallowed"
        texts = row[side], row[f"{side}_right"], row[f"{side}_wrong"]
        found.append(Plant(name, "knowledge", "swallowed", row["id"], *texts, 0))
    return found


def answers(limit: int) -> list[dict[str, Any]]:
    """Return rows of planted_answers.jsonl, at most ``limit`` of each kind: question, reference, same, wrong."""
    every = data("planted_answers.jsonl")
    return [row for kind in PATTERNS.values() for row in [row for row in every if row["kind"] == kind][:limit]]


def _wordings(limit: int) -> list[Plant]:
    found = []
    for place, row in enumerate(answers(limit)):
        wrong = (("echoed", row["wrong"]), ("padded echoed", padded(row["wrong"])))[place % 2]
        for what, text, label in (("reworded", row["same"], SCALE), (*wrong, 0)):
            name = f"{row['id']}/{what}"
            found.append(Plant(name, row["kind"], what, row["id"], row["question"], row["reference"], text, label))
    return found
