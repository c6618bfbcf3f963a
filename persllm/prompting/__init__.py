"""Prompt recipes: one module each, with ``build(source, stage, question)`` that returns chat messages.

A recipe of several passes also has ``further(source, stage, question)``: what it is asked after each of its replies.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from persllm.packs import Card
from persllm.records import Item, Material

Message = dict[str, str]

GENERIC = "You are a helpful assistant. Answer in two to four sentences."


@dataclass(frozen=True)
class Source:
    """What a recipe may draw on. Held-out items are not among it; the persona's materials are."""

    card: Card
    config: dict[str, Any]
    """The method's prompt section."""
    materials: list[Material] = field(default_factory=list)
    examples: list[Item] = field(default_factory=list)
    """Training items."""


def stage_line(card: Card, stage: str, temporal_label: str = "text") -> str:
    """Return how a prompt names the stage: in words, by its special token, or (``none``) not at all."""
    if temporal_label == "none":
        return ""
    return f" It is {card.stages[stage].label if temporal_label == 'text' else stage_token(stage)}."


def stage_token(stage: str) -> str:
    """Return the special token that stands for a stage."""
    return f"<|stage:{stage}|>"


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the messages of the configured recipe: a system message, perhaps turns, and the user's question."""
    return _recipe(source).build(source, stage, question)


def further(source: Source, stage: str, question: str) -> list[str]:
    """Return what the arm is asked after each of its own replies, before the reply that counts; for most, nothing."""
    recipe = _recipe(source)
    return recipe.further(source, stage, question) if hasattr(recipe, "further") else []


def _recipe(source: Source) -> Any:
    return importlib.import_module(f"persllm.prompting.{source.config['recipe']}")
