"""Annotators: language models that write a persona's items from its materials (arXiv 2407.12393, data construction).

``allot`` says which item comes from which paragraph, ``prompts`` asks, ``api`` or ``local`` answers, ``answers`` keeps
every answer on disk, ``reading`` takes it apart, and ``construct`` puts these in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[str, str]

REFUSED = "refused"
"""The finish reason where a server would not answer this one request (too long, for one): not asked again, not kept."""


class Unanswered(RuntimeError):
    """Requests that got no answer after all tries; those that did are kept."""


@dataclass(frozen=True)
class Request:
    """One thing asked of an annotator. An answer is kept by its meaning (see ``persllm.annotators.answers.key``)."""

    messages: list[Message]
    attempt: int
    """0 first; a later attempt is another request, with another seed."""
    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    """Where it is refused, why."""
    finish_reason: str
    """``stop``, ``length``, ``REFUSED`` or the server's own word."""
    prompt_tokens: int | None
    """None, as the next, where the server does not count."""
    completion_tokens: int | None


class Annotator(Protocol):
    """Something that answers requests."""

    name: str
    """As records name it: ``api:MODEL`` or ``local:MODEL``."""
    identity: dict[str, Any]
    """What tells its answers from another's."""
    tries: int
    """What was asked of it so far; what is beyond one an answer was asked again."""

    def answer(
        self, requests: list[Request], done: set[int], go_on: Callable[[], bool]
    ) -> Iterator[tuple[int, Answer]]:
        """Yield the index and the answer of each request that is not in ``done``, in any order, as they come.

        Once ``go_on`` says no, nothing new is asked, and what is under way is still yielded: it is paid for.
        """
        ...
