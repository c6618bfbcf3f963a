"""Before the judge: scores, choices and roles asked for, names masked, and every verdict written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from persllm.annotators.inquiry import Inquiry, Task, Try
from persllm.judging import prompts, reading
from persllm.judging.masking import mask
from persllm.judging.reading import FIRST, SECOND, TIE

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A reply to score."""

    id: str
    kind: str
    """``knowledge`` or ``attitude``."""
    question: str
    reference: str
    candidate: str


@dataclass(frozen=True)
class Duel:
    """Two replies to choose between."""

    id: str
    question: str
    reference: str
    one: str
    other: str


@dataclass(frozen=True)
class Riddle:
    """An answer whose speaker is to be found."""

    id: str
    characters: list[str]
    question: str
    answer: str


class Settled(NamedTuple):
    """What came of a duel."""

    orders: tuple[str | None, str | None]
    """What was chosen with ``one`` shown first, and with ``other`` first: A, B or tie, by place; None is missing."""

    @property
    def outcome(self) -> float | None:
        """1 where ``one`` wins in both orders, 0 where ``other`` does, 0.5 for a tie or where the orders disagree."""
        if None in self.orders:
            return None
        return {(FIRST, SECOND): 1.0, (SECOND, FIRST): 0.0}.get(self.orders, 0.5)  # type: ignore[call-overload]

    @property
    def flipped(self) -> bool | None:
        """Whether the verdict changed with the order; None where one is missing."""
        if None in self.orders:
            return None
        return self.orders not in ((FIRST, SECOND), (SECOND, FIRST), (TIE, TIE))


class Bench:
    """Puts cases to the judge.

    Args:
        inquiry: who is asked.
        config: the section ``judge``: temperature, repeats, attempts.
        hidden: names that are masked in everything (see persllm.judging.masking).
    """

    def __init__(self, inquiry: Inquiry, config: Row, hidden: list[str]) -> None:
        self.inquiry = inquiry
        self.config = config
        self.hidden = hidden
        self.verdicts: list[Row] = []
        """Each with what was asked, the verdict (None where it is missing, with the reason), the prompt's hash and the
        judge's name."""
        self.hashes = prompts.hashes()

    def _masked(self, *texts: str) -> list[str]:
        return [mask(text, self.hidden) for text in texts]

    def _tries(self, draw: int, greedy: bool) -> list[Try]:
        """Return the tries of one draw; their numbers are those of no other draw."""
        repeats, warm = self.config["repeats"], self.config["temperature"]
        numbers = range(draw, draw + repeats * self.config["attempts"], repeats)
        # What is broken once is broken again where nothing is drawn.
        return [Try(0.0 if greedy and not place else warm, number) for place, number in enumerate(numbers)]

    def _ask(
        self, step: str, template: Callable[[str], str], tasks: list[Task[Any]], draw: int, greedy: bool
    ) -> dict[str, Any]:
        before = len(self.inquiry.set_aside)
        found = self.inquiry.ask(step, tasks, self._tries(draw, greedy)) if tasks else {}
        why = {one.id: one.reason for one in self.inquiry.set_aside[before:]}
        for task in tasks:
            row = {"step": step, "id": task.id, "draw": draw, "verdict": found.get(task.id)}
            row |= {"missing": why[task.id]} if task.id in why else {}
            row |= {"prompt_sha256": self.hashes[template(task.id)], "system_sha256": self.hashes["system"]}
            self.verdicts.append(row | {"judge": self.inquiry.annotator.name})
        return found

    def scores(self, step: str, cases: list[Case]) -> dict[str, list[int | None]]:
        """Return the score of each case in each repeat; None is missing."""
        tasks = [
            Task(c.id, prompts.ask_score(c.kind, *self._masked(c.question, c.reference, c.candidate)), reading.score)
            for c in cases
        ]
        kinds = {case.id: case.kind for case in cases}
        draws = [self._ask(step, kinds.__getitem__, tasks, n, greedy=False) for n in range(self.config["repeats"])]
        return {case.id: [draw.get(case.id) for draw in draws] for case in cases}

    def duels(self, step: str, duels: list[Duel]) -> dict[str, Settled]:
        """Return what came of each duel, put in both orders. Where both sides are the same, it is a tie unasked."""
        tasks, settled = [], {}
        for duel in duels:
            question, reference, one, other = self._masked(duel.question, duel.reference, duel.one, duel.other)
            if one.split() == other.split():
                settled[duel.id] = Settled((TIE, TIE))
                continue
            for order, sides in enumerate(((one, other), (other, one))):
                messages = prompts.ask_pair(question, reference, *sides)
                tasks.append(Task(f"{duel.id}#{order}", messages, reading.choice))
        found = self._ask(step, lambda _: "pair", tasks, 0, greedy=True)
        asked = {duel.id: Settled((found.get(f"{duel.id}#0"), found.get(f"{duel.id}#1"))) for duel in duels}
        return asked | settled

    def roles(self, riddles: list[Riddle]) -> dict[str, int | None]:
        """Return the place of the character that was named for each answer; None is missing."""
        tasks = []
        for one in riddles:
            characters = self._masked(*one.characters)
            messages = prompts.ask_role(characters, *self._masked(one.question, one.answer))
            tasks.append(Task(one.id, messages, reading.role(len(characters))))
        found = self._ask("role", lambda _: "role", tasks, 0, greedy=True)
        return {one.id: found.get(one.id) for one in riddles}
