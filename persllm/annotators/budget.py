"""What annotating will cost, stated before it starts, and a purse that stops it when the budget is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from persllm.annotators import REFUSED, Answer
from persllm.annotators.allot import allot
from persllm.annotators.prompts import ask_question, ask_turn
from persllm.errors import UserError
from persllm.packs import Card
from persllm.records import KINDS, Material

BYTES_PER_TOKEN = 4
"""Of English in UTF-8, on average; the estimate says that it is one."""
QUESTION_TOKENS, TURN_TOKENS = 40, 120
"""Usual lengths of the two kinds of answer."""


@dataclass(frozen=True)
class Estimate:
    """Requests and tokens of one attempt at everything, and money where prices are given."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None
    questions: int = 0
    """How many of the requests ask for questions."""
    answered: int = 0
    """How many of these are answered already."""

    def sizes(self) -> str:
        """Return requests and tokens in words."""
        return (
            f"{self.requests:,} requests, about {self.prompt_tokens:,} prompt tokens and {self.completion_tokens:,} "
            "tokens of answers"
        )

    def told(self, budget: float | None, attempts: int, section: str = "annotate") -> str:
        """Return the estimate in words, with the keys of a section."""
        text = self.sizes()
        if self.money is not None:
            text += f", about {self.money:.2f} in money"
        text += f", if every answer can be read (else up to {attempts} times that)"
        if self.money is not None:
            limit = f"no limit is set ({section}.endpoint.budget)"
            text += f"; {limit if budget is None else f'it stops at {budget:g} each time'}"
        if self.answered:
            text += f"; {self.answered:,} of {self.questions:,} requests for questions are answered already"
        return text + "; what is answered already is not asked again"


def price(tokens: tuple[int, int], endpoint: dict[str, Any]) -> float | None:
    """Return what prompt and answer tokens cost, or None where no price is given."""
    prices = endpoint["price_input"], endpoint["price_output"]
    if prices[0] is None or prices[1] is None:
        return None
    return (tokens[0] * prices[0] + tokens[1] * prices[1]) / 1e6


def estimate(card: Card, materials: list[Material], config: dict[str, Any], endpoint: dict[str, Any]) -> Estimate:
    """Return what one attempt at every question, response and re-answer takes."""
    slots = allot(materials, config)
    prompt = completion = requests = 0
    sizes: dict[str, int] = {}
    for stage in card.stages:
        texts = {kind: [m.text for m in materials if (m.stage, m.kind) == (stage, kind)] for kind in KINDS}
        words = {kind: sum(len(text.split()) for text in found) for kind, found in texts.items()}
        shown = sum(
            len(" ".join(found).encode()) * min(1.0, config[f"{kind}_words"] / max(1, words[kind]))
            for kind, found in texts.items()
        )
        bare = ask_turn(card, stage, None, "x" * 4 * QUESTION_TOKENS, [])
        sizes[stage] = round((sum(len(m["content"].encode()) for m in bare) + shown) / BYTES_PER_TOKEN)
    for slot in slots:
        asked = ask_question(card, slot.stage, slot.pattern, slot.material)
        twins = 2 if slot.pattern == "premise" else 1
        stages = list(card.stages) if config["reanswers"] else [slot.stage]
        answers = twins * len(stages)
        prompt += round(sum(len(m["content"].encode()) for m in asked) / BYTES_PER_TOKEN)
        prompt += twins * sum(sizes[stage] for stage in stages)
        requests += 1 + answers
        completion += QUESTION_TOKENS * twins + TURN_TOKENS * answers
    return Estimate(requests, prompt, completion, price((prompt, completion), endpoint), len(slots))


MENDS = "annotate.knowledge, annotate.opinion, annotate.premise, annotate.knowledge_words"
"""By what less is asked of an annotator."""


def require_affordable(
    expected: Estimate, endpoint: dict[str, Any], section: str = "annotate", mends: str = MENDS
) -> None:
    """Raise where more is expected than the budget allows.

    Args:
        expected: what everything takes.
        endpoint: the section's ``endpoint``.
        section: whose keys the message names.
        mends: the keys by which less is asked for.

    Raises:
        UserError: with both figures.
    """
    budget = endpoint["budget"]
    if budget is not None and expected.money is not None and expected.money > budget:
        raise UserError(
            f"{section}.endpoint.budget is {budget:g}, but about {expected.money:.2f} is expected "
            f"({expected.sizes()}); raise it, or ask for less: {mends}"
        )


class Purse:
    """What is spent by one attempt at a step.

    Args:
        endpoint: the section's ``endpoint``.
        section: whose keys messages name, ``annotate`` or ``judge``.
    """

    def __init__(self, endpoint: dict[str, Any], section: str = "annotate") -> None:
        self.endpoint = endpoint
        self.key = f"{section}.endpoint.budget"
        self.tokens = (0, 0)
        self.answers = 0
        self.uncounted = 0
        """Answers whose tokens the server did not tell."""
        self.refused = 0

    @property
    def spent(self) -> float | None:
        """Money for all tokens that were told; None where no price is given."""
        return price(self.tokens, self.endpoint)

    def pay(self, answer: Answer) -> None:
        """Count an answer and its tokens; one that was refused costs nothing."""
        if answer.finish_reason == REFUSED:
            self.refused += 1
            return
        self.answers += 1
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            self.uncounted += 1
            return
        self.tokens = self.tokens[0] + answer.prompt_tokens, self.tokens[1] + answer.completion_tokens

    def is_left(self) -> bool:
        """Return whether more may be asked for: the budget is not spent, and every answer's cost is known."""
        spent, budget = self.spent, self.endpoint["budget"]
        return spent is None or budget is None or (spent < budget and not self.uncounted)

    def require_left(self) -> None:
        """Raise where the budget is spent, or cannot be kept because the server does not count tokens.

        Raises:
            UserError: with what is spent; the answers so far are kept.
        """
        if self.is_left():
            return
        spent, budget = self.spent, self.endpoint["budget"]
        if self.uncounted:
            raise UserError(
                f"{self.key} of {budget:g} cannot be kept: the server did not say how many tokens "
                f"{self.uncounted} of {self.answers} answers took; every answer so far is kept: let the server tell "
                f"usage, or go on without a limit, {self.key}=null"
            )
        raise UserError(
            f"{self.key} of {budget:g} is spent ({spent:.2f}); every answer so far is kept: running the "
            "same command again goes on and may spend as much again"
        )
