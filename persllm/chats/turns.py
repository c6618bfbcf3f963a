"""The first question and answer of a row of instruction data, or why the row has none that can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

COLUMNS = ("messages", "conversations", "instruction", "input", "output")
"""What is read of a row; the first three tell its form."""
EXPECTED = "messages (chat messages), conversations (ShareGPT), or instruction and output (Alpaca)"

USER = ("user", "human", "prompter")
ASSISTANT = ("assistant", "gpt", "chatgpt", "bot", "model")
SYSTEM = ("system", "developer")
OTHERS = ("tool", "function", "observation", "function_call", "function_response", "ipython")
ROLES = {name: role for role, names in enumerate((USER, ASSISTANT, SYSTEM, OTHERS)) for name in names}


class Skip(Enum):
    """Why a row is passed over."""

    not_an_object = "not_an_object"
    """It is a bare number, text or list."""
    unknown_columns = "unknown_columns"
    """It has none of the three forms."""
    no_turns = "no_turns"
    """Its column is null or an empty list."""
    bad_turn = "bad_turn"
    """One of its first turns is no object, or its role is none that we know."""
    not_text = "not_text"
    """Question or answer has a part that is no text (an image, say), or letters that UTF-8 cannot hold."""
    begins_elsewhere = "begins_elsewhere"
    """Its first turn, a system message aside, is not a question: what follows leans on what was said before."""
    no_question = "no_question"
    """The question is null or blank."""
    no_answer = "no_answer"
    """The turn after the question is no answer (a tool's call, say), or null, or blank."""


@dataclass(frozen=True)
class Turn:
    """A question and its answer, and what of their row was left out."""

    question: str
    answer: str
    system: bool = False
    """A system message stood before them."""
    later: bool = False
    """More turns came after them."""


def _text(content: Any) -> str | Skip | None:
    """Return a content's text: it is text itself, or a list of texts and ``{"type": "text", "text": ...}`` parts."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            return Skip.not_text
        content = "\n".join(texts)
    if content is None:
        return None
    if not isinstance(content, str):
        return Skip.not_text
    try:
        content.encode()
    except UnicodeEncodeError:
        return Skip.not_text
    return content.strip()


def _made(question: Any, answer: Any, system: bool = False, later: bool = False) -> Turn | Skip:
    asked, told = _text(question), _text(answer)
    for found, lack in ((asked, Skip.no_question), (told, Skip.no_answer)):
        if isinstance(found, Skip) or not found:
            return found if isinstance(found, Skip) else lack
    return Turn(str(asked), str(told), system, later)


def _said(turn: Any) -> tuple[int | None, Any]:
    """Return a turn's role, as its place in ``ROLES``, and its content, under chat messages' names or ShareGPT's."""
    if not isinstance(turn, Mapping):
        return None, None
    name = turn.get("role") or turn.get("from")
    content = turn.get("content")
    return ROLES.get(name.lower()) if isinstance(name, str) else None, turn.get("value") if content is None else content


def _conversation(turns: Any) -> Turn | Skip:
    if not isinstance(turns, list) or not turns:
        return Skip.no_turns
    system = 0
    while system < len(turns) and _said(turns[system])[0] == ROLES["system"]:
        system += 1
    first = [_said(turn) for turn in turns[system : system + 2]]
    if any(role is None for role, _ in first):
        return Skip.bad_turn
    if not first or first[0][0] != ROLES["user"]:
        return Skip.begins_elsewhere
    if len(first) < 2 or first[1][0] != ROLES["assistant"]:
        return Skip.no_answer
    return _made(first[0][1], first[1][1], system > 0, len(turns) > system + 2)


def first_turn(row: Any) -> Turn | Skip:
    """Return the question that opens a row's conversation and the answer to it, or why there is none.

    Three forms are known: ``messages`` and ``conversations`` are lists of turns, each with ``role`` and ``content`` or
    with ``from`` and ``value``; else ``instruction``, ``input`` and ``output``, where an input follows the instruction.
    Of several the first that is not null counts.

    Args:
        row: a row of a data set.
    """
    if not isinstance(row, Mapping):
        return Skip.not_an_object
    for column in ("messages", "conversations"):
        if row.get(column) is not None:
            return _conversation(row[column])
    if row.get("instruction") is not None:
        asked = [_text(row["instruction"]), _text(row.get("input"))]
        if Skip.not_text in asked:
            return Skip.not_text
        return _made("\n\n".join(str(part) for part in asked if part), row.get("output"))
    return Skip.no_turns if any(column in row for column in COLUMNS[:3]) else Skip.unknown_columns
