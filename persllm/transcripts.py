"""What personas said to each other, and what they thought before and after. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm.records import read


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a conversation. ``response`` is None where the reply broke its format: silence to the others."""

    conversation: str
    scenario: str
    number: int
    """From 0, over all speakers."""
    persona: str
    """The pack's folder name."""
    name: str
    """As the persona is called."""
    stage: str
    text: str
    """As generated, the analysis included."""
    response: str | None
    forgotten: int
    """How many of the oldest exchanges the speaker no longer remembered."""
    prompt_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """How likely a speaker finds the reply that keeps one of its stances, and the one that gives it up."""

    conversation: str
    """After which it was asked; empty where it had spoken to nobody yet."""
    persona: str
    stage: str
    stance: str
    likelihoods: list[list[float]]
    """Of keeping and of giving up: total in nats, and tokens."""


@dataclass(frozen=True)
class Transcripts:
    """What one step converse wrote."""

    turns: list[Turn]
    opinions: list[Opinion]


def load(artifacts: Path) -> Transcripts:
    """Read what a step converse wrote."""
    return Transcripts(read(Turn, artifacts / "transcripts.jsonl"), read(Opinion, artifacts / "opinions.jsonl"))


def streamed(path: Path) -> list[dict[str, Any]]:
    """Return the rows that an earlier attempt streamed; a torn last line is dropped."""
    found = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.append(row)
    return found
