"""Questions put to an annotator or a judge, round after round: what came back broken is asked again, then set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from persllm.annotators import REFUSED, Annotator, Answer, Message, Request, Unanswered, reading
from persllm.annotators.answers import Answers
from persllm.annotators.budget import Purse
from persllm.progress import bar

T = TypeVar("T")

LOST = "lost"
"""The finish reason of a request that got no answer after all tries, where a few of these are borne: not kept."""


class Try(NamedTuple):
    """How a task is asked."""

    temperature: float
    number: int
    """Tells its request from others of the same words; see ``Request.attempt``."""


@dataclass(frozen=True)
class Task(Generic[T]):
    """One thing wanted of the one who is asked, and how to read the answer."""

    id: str
    messages: list[Message]
    read: Callable[[Answer], T]
    """Raises ``reading.Broken`` where the answer is none."""


@dataclass(frozen=True)
class SetAside:
    """What was given up, and why."""

    id: str
    step: str
    """``question``, ``response`` or ``reanswer``; of a judge the kind of verdict."""
    reason: str
    text: str
    """The last answer."""


class Inquiry:
    """Asks, keeps every answer on disk, and counts what came of it.

    Args:
        annotator: who answers.
        answers: where answers are kept.
        purse: what may be spent.
        max_tokens: of an answer.
        lost_share: of a step's requests, how many may go without an answer; more are an error.
    """

    def __init__(
        self, annotator: Annotator, answers: Answers, purse: Purse, max_tokens: int, lost_share: float = 0.0
    ) -> None:
        self.annotator = annotator
        self.answers = answers
        self.purse = purse
        self.max_tokens = max_tokens
        self.lost_share = lost_share
        self.asked: Counter[str] = Counter()
        """Tasks by step."""
        self.broken: Counter[str] = Counter()
        """Answers that broke the format, by reason, those of later attempts included."""
        self.set_aside: list[SetAside] = []
        self.tokens = [0, 0]
        """Of all prompts and answers that this rests on, whenever they were paid."""
        self.uncounted = 0
        """Answers whose tokens the server did not tell."""

    def ask(self, step: str, tasks: list[Task[T]], tries: Sequence[Try]) -> dict[str, T]:
        """Return what could be read, by task, in the order of the tasks; the others are set aside.

        Args:
            step: what is asked for, in one word.
            tasks: with ids of their own.
            tries: how a task is asked at first, and then again as long as its answer is broken.

        Raises:
            Unanswered: more requests than are borne got no answer; those that did are kept.
        """
        self.asked[step] += len(tasks)
        found: dict[str, T] = {}
        left = tasks
        with bar(len(tasks), f"{step}s") as progress:
            for place, one_try in enumerate(tries, 1):
                broken: list[tuple[Task[T], str, Answer]] = []
                for task, answer in zip(left, self._answers(step, left, one_try, progress), strict=True):
                    try:
                        found[task.id] = task.read(answer)
                    except reading.Broken as error:
                        broken.append((task, str(error), answer))
                        self.broken[f"{step}: {error}"] += 1
                last = place == len(tries)
                final = [one for one in broken if last or one[2].finish_reason == REFUSED]
                self.set_aside += [SetAside(task.id, step, why, answer.text) for task, why, answer in final]
                left = [task for task, _, answer in broken if answer.finish_reason != REFUSED]
                if not left:
                    break
                progress(-len(left))
        return {task.id: found[task.id] for task in tasks if task.id in found}

    def _answers(self, step: str, tasks: list[Task[T]], how: Try, progress: Callable[[int], None]) -> list[Answer]:
        made = [Request(task.messages, how.number, how.temperature, self.max_tokens) for task in tasks]
        # Two tasks with the same words are one request.
        requests = {self.answers.key(request): request for request in made}
        known = {name: answer for name, r in requests.items() if (answer := self.answers.get(r)) is not None}
        # Tasks of one request advance together, when all is known.
        progress(len(known))
        if len(known) < len(requests):
            self.purse.require_left()
            try:
                self._fetch(requests, known, progress)
            except Unanswered:
                if len(requests) - len(known) > self.lost_share * self.asked[step]:
                    raise
                progress(len(requests) - len(known))
                lost = Answer("", LOST, 0, 0)
                known = {name: known.get(name, lost) for name in requests}
            if len(known) < len(requests):
                self.purse.require_left()
        progress(len(tasks) - len(requests))
        for answer in known.values():
            if answer.prompt_tokens is None or answer.completion_tokens is None:
                self.uncounted += 1
                continue
            self.tokens[0] += answer.prompt_tokens
            self.tokens[1] += answer.completion_tokens
        return [known[self.answers.key(request)] for request in made]

    def _fetch(self, requests: dict[str, Request], known: dict[str, Answer], progress: Callable[[int], None]) -> None:
        """Ask for what is not known yet, by key, and keep it."""
        names = list(requests)
        done = {i for i, name in enumerate(names) if name in known}
        for index, answer in self.annotator.answer(list(requests.values()), done, self.purse.is_left):
            if names[index] not in known:
                if answer.finish_reason != REFUSED:
                    self.answers.put(requests[names[index]], answer)
                self.purse.pay(answer)
                progress(1)
            # A batch is made whole, kept answers too: what is kept counts.
            known.setdefault(names[index], answer)
