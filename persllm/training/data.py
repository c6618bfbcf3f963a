"""From items and pairs to token sequences: the same prompt that generation will use, and the answer after it."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from transformers import PreTrainedTokenizerBase

from persllm.answer import render
from persllm.errors import UserError
from persllm.language_model import chat_ids, text_ids
from persllm.packs import Card
from persllm.prompting import GENERIC, Message, Source, build
from persllm.records import PREMISES, GeneralItem, Item, Material, Pair, Reanswer
from persllm.training.batch import Sequence


def prompt_source(card: Card, recipe: str, tune: dict[str, Any]) -> Source:
    """Return what a tuned arm's prompt is built from."""
    return Source(card, {"recipe": recipe, "temporal_label": tune["temporal_label"]})


class Encoder:
    """Turns turns into sequences of at most ``max_length`` tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.cut = 0
        """How many answers were cut at the end."""

    def encode(self, messages: list[Message], answer: str) -> Sequence:
        """Return the sequence of a prompt and an answer, with the end-of-turn token learned."""
        prompt = chat_ids(self.tokenizer, messages)
        room = self.max_length - len(prompt)
        if room < 8:
            raise UserError(
                f"a prompt has {len(prompt)} tokens and model.max_length is {self.max_length}; raise model.max_length "
                "or shorten the persona's profile"
            )
        end = self.tokenizer.eos_token_id
        completion = [*text_ids(self.tokenizer, answer), int(end)]  # type: ignore[arg-type]
        self.cut += len(completion) > room
        return Sequence(prompt, completion[:room])


def sft_sequences(items: list[Item], source: Source, tune: dict[str, Any], encoder: Encoder) -> list[Sequence]:
    """Return one sequence per item; without anti-induction the premise items are left out."""
    kept = [item for item in items if tune["anti_induction"] or item.pattern not in PREMISES]
    return [
        encoder.encode(
            build(source, item.stage, item.question),
            render(item.analysis if tune["analysis"] else None, item.response),
        )
        for item in kept
    ]


def reanswered(items: list[Item], reanswers: list[Reanswer]) -> list[Item]:
    """Return the other stages' answers to these items, as items of those stages."""
    return [
        dataclasses.replace(item, stage=again.stage, analysis=again.analysis, response=again.response)
        for item in items
        for again in reanswers
        if again.item_id == item.id
    ]


RECALL = {"knowledge": "What is known of you?", "speech": "Say something in your own words."}
"""The question that a paragraph of each kind answers, where paragraphs are trained on."""


def material_sequences(paragraphs: list[Material], source: Source, encoder: Encoder) -> list[Sequence]:
    """Return one sequence per paragraph, under its stage's prompt and with no analysis."""
    return [encoder.encode(build(source, m.stage, RECALL[m.kind]), m.text) for m in paragraphs]


def general_share(items: list[GeneralItem], ratio: float | None, persona: int) -> tuple[list[GeneralItem], int]:
    """Return the general items that are mixed with so many persona sequences, and how many the ratio asks for.

    Args:
        items: what the step general kept.
        ratio: general items per persona sequence; None asks for all that there are.
        persona: sequences of an epoch before the mixing.

    Returns:
        Items in their own order, none twice: fewer than asked for where there are no more. A larger ratio's hold a
        smaller one's.
    """
    asked = len(items) if ratio is None else round(ratio * persona)
    if asked >= len(items):
        return items, asked
    by_hash = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    chosen = {item.id for item in by_hash[:asked]}
    return [item for item in items if item.id in chosen], asked


def general_sequences(items: list[GeneralItem], encoder: Encoder) -> list[Sequence]:
    """Return one sequence per general item, under the neutral prompt and with no analysis."""
    return [
        encoder.encode(
            [{"role": "system", "content": GENERIC}, {"role": "user", "content": item.question}], item.response
        )
        for item in items
    ]


def pair_sequences(
    pairs: list[Pair], source: Source, tune: dict[str, Any], encoder: Encoder
) -> list[tuple[Sequence, Sequence]]:
    """Return ``(chosen, rejected)`` for each pair."""
    found = []
    for pair in pairs:
        messages = build(source, pair.stage, pair.prompt)
        both = [
            encoder.encode(messages, render(side[0] if tune["analysis"] else None, side[1]))
            for side in (pair.chosen, pair.rejected)
        ]
        found.append((both[0], both[1]))
    return found
