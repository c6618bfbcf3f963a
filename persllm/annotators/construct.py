"""The construction of a persona's items: questions, then responses, then the other stages' questions answered again.

As in arXiv 2407.12393 (conversation construction): three question patterns (here the false premise with its true
twin), retrieval with the source paragraph first, analysis before the response. Each round asks for everything that is
open, again for what came back broken, and sets aside what stays broken, with the reason.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeVar

from persllm.annotators import Annotator, reading
from persllm.annotators.allot import Slot, allot
from persllm.annotators.answers import Answers
from persllm.annotators.budget import Purse
from persllm.annotators.inquiry import Inquiry, SetAside, Task, Try
from persllm.annotators.prompts import ask_question, ask_turn
from persllm.annotators.retrieve import retrieve
from persllm.packs import Card
from persllm.records import Item, Material, Reanswer

T = TypeVar("T")


@dataclass
class Made:
    """What a construction brought forth."""

    items: list[Item] = field(default_factory=list)
    reanswers: list[Reanswer] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """Tasks by step."""
    broken: Counter[str] = field(default_factory=Counter)
    """Answers that broke the format, by reason, those of later attempts included."""
    tokens: list[int] = field(default_factory=lambda: [0, 0])
    """Of all prompts and answers that this rests on, whenever they were paid."""
    uncounted: int = 0
    """Answers whose tokens the server did not tell."""

    def to_yield(self) -> dict[str, Any]:
        """Return the yield, for people and for the report."""
        kept = Counter(item.pattern for item in self.items)
        return {
            "asked": dict(self.asked),
            "items": dict(kept),
            "reanswers": len(self.reanswers),
            "set_aside": dict(Counter(f"{one.step}: {one.reason}" for one in self.set_aside)),
            "broken_answers": dict(self.broken),
            "prompt_tokens": self.tokens[0],
            "completion_tokens": self.tokens[1],
            "answers_without_usage": self.uncounted,
        }


class Construction:
    """Builds the items of one persona.

    Args:
        card: the persona.
        materials: its paragraphs.
        config: the section ``annotate`` (counts, budgets of words, decoding, attempts).
        annotator: who answers.
        answers: where answers are kept.
        purse: what may be spent.
    """

    def __init__(
        self,
        card: Card,
        materials: list[Material],
        config: dict[str, Any],
        annotator: Annotator,
        answers: Answers,
        purse: Purse,
    ) -> None:
        self.card = card
        self.materials = materials
        self.config = config
        self.annotator = annotator
        self.inquiry = asked = Inquiry(annotator, answers, purse, config["max_tokens"])
        self.made = Made(set_aside=asked.set_aside, asked=asked.asked, broken=asked.broken, tokens=asked.tokens)

    def run(self) -> Made:
        """Return items, re-answers and what was set aside; the same for the same answers, whatever their order."""
        slots = {slot.id: slot for slot in allot(self.materials, self.config)}
        items = self._responses(self._questions(slots))
        there = {item.id for item in items}
        self.made.items = [item for item in items if item.premise_pair is None or item.premise_pair in there]
        for item in items:
            if item.premise_pair is not None and item.premise_pair not in there:
                self.made.set_aside.append(SetAside(item.id, "response", "its twin was set aside", item.response))
        if self.config["reanswers"]:
            self.made.reanswers = self._reanswers(self.made.items)
        self.made.uncounted = self.inquiry.uncounted
        return self.made

    def _questions(self, slots: dict[str, Slot]) -> list[Item]:
        tasks: list[Task[list[str]]] = []
        for slot in slots.values():
            messages = ask_question(self.card, slot.stage, slot.pattern, slot.material, slot.use)
            pattern = slot.pattern
            tasks.append(Task(slot.id, messages, lambda answer, pattern=pattern: reading.questions(answer, pattern)))
        drafts = []
        for id, found in self._ask("question", tasks).items():
            slot = slots[id]
            names = [(id, slot.pattern, None)]
            if slot.pattern == "premise":
                twins = id.replace("-p", "-f"), id.replace("-p", "-t")
                names = [(twins[0], "false_premise", twins[1]), (twins[1], "true_premise", twins[0])]
            for (name, pattern, twin), question in zip(names, found, strict=True):
                drafts.append(self._draft(slot, name, pattern, twin, question))
        return drafts

    def _draft(self, slot: Slot, name: str, pattern: str, twin: str | None, question: str) -> Item:
        return Item(
            id=name,
            persona=slot.material.persona,
            stage=slot.stage,
            pattern=pattern,
            material_id=slot.material.id,
            premise_pair=twin,
            question=question,
            analysis="",
            response="",
            annotator=self.annotator.name,
        )

    def _shown(self, stage: str, own: str | None, question: str) -> list[Material]:
        pool = [m for m in self.materials if m.stage == stage]
        return retrieve(pool, next((m for m in pool if m.id == own), None), question, self.config)

    def _responses(self, drafts: list[Item]) -> list[Item]:
        shown = {item.id: self._shown(item.stage, item.material_id, item.question) for item in drafts}
        tasks = [
            Task(item.id, ask_turn(self.card, item.stage, item.pattern, item.question, shown[item.id]), reading.turn)
            for item in drafts
        ]
        turns = self._ask("response", tasks)
        return [
            dataclasses.replace(
                item,
                analysis=turns[item.id][0],
                response=turns[item.id][1],
                retrieved=[m.id for m in shown[item.id]],
            )
            for item in drafts
            if item.id in turns
        ]

    def _reanswers(self, items: list[Item]) -> list[Reanswer]:
        wanted = {
            f"{item.id}@{stage}": (item, stage) for item in items for stage in self.card.stages if stage != item.stage
        }
        shown = {name: self._shown(stage, None, item.question) for name, (item, stage) in wanted.items()}
        tasks = [
            Task(name, ask_turn(self.card, stage, None, item.question, shown[name]), reading.turn)
            for name, (item, stage) in wanted.items()
        ]
        return [
            Reanswer(
                item_id=wanted[name][0].id,
                persona=wanted[name][0].persona,
                stage=wanted[name][1],
                analysis=analysis,
                response=response,
                annotator=self.annotator.name,
                retrieved=[m.id for m in shown[name]],
            )
            for name, (analysis, response) in self._ask("reanswer", tasks).items()
        ]

    def _ask(self, step: str, tasks: list[Task[T]]) -> dict[str, T]:
        tries = [Try(self.config["temperature"], number) for number in range(self.config["attempts"])]
        return self.inquiry.ask(step, tasks, tries)
