"""The IPIP-NEO-120 as probes: five answers that differ in degree, listed in two orders, and what an arm answers.

Items: persllm/metrics/data/ipip_neo_120.jsonl. Which trait and facet an item is of, and whether agreeing with it speaks
against the trait, is asked of the package five-factor-e.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

from persllm.cards import BIG_FIVE
from persllm.probes import Probe, Subject, Told, data

ANSWERS = (
    "Very unlike me.",
    "Rather unlike me.",
    "Neither like nor unlike me.",
    "Rather like me.",
    "Very like me.",
)
"""From 1 to 5."""
WORDINGS = {
    "test": 'How well does this describe you: "{item}" Answer with one of these:\n{answers}',
    "retest": 'Somebody says: "{item}" Are you like that? Choose your answer from these:\n{answers}',
}


class Scale(NamedTuple):
    """One item with its key."""

    number: int
    text: str
    """In the first person."""
    trait: str
    facet: int
    """Of its trait, from 1."""
    reverse: bool
    """Whether agreeing with it speaks against the trait."""

    def keyed(self, answer: float) -> float:
        """Return an answer from 1 to 5 turned so that 5 is most of the trait."""
        return 6 - answer if self.reverse else answer


class Answer(NamedTuple):
    """What an arm answered to one item in one wording and order."""

    item: Scale
    stage: str
    wording: str
    order: str
    value: float
    """Expected, from 1 to 5, not keyed."""
    mass: float
    """The probability that its reply is one of the five at all (begins with its words, no more)."""
    beyond: float | None
    """The same value after the unpersonified base model's log-likelihoods are subtracted."""


@cache
def scales() -> tuple[Scale, ...]:
    """Return the 120 items in their order."""
    from ipipneo.facet import Facet
    from ipipneo.model import QuestionNumber
    from ipipneo.reverse import IPIP_NEO_ITEMS_REVERSED_120

    rows, found = data("ipip_neo_120.jsonl"), []
    key: Any = Facet(nquestion=QuestionNumber.IPIP_120)
    for row in rows:
        # Answered alone, an item shows to which score it is added.
        sums = key.score([int(one["number"] == row["number"]) for one in rows])
        (letter,) = [letter for letter, total in key.domain(sums).items() if total]
        (trait,) = [trait for trait in BIG_FIVE if trait.startswith(letter.lower())]
        facet = key.b5create(sums)[letter].index(1)
        text = f"I {row['text'][0].lower()}{row['text'][1:]}."
        found.append(Scale(row["number"], text, trait, facet, row["number"] in IPIP_NEO_ITEMS_REVERSED_120))
    return tuple(found)


def chosen(trait: str, limit: int | None) -> list[Scale]:
    """Return a trait's items, or so many that their directions are balanced and facets differ as long as they can."""
    sides = [[one for one in scales() if one.trait == trait and one.reverse is side] for side in (False, True)]
    if limit is None or limit >= sum(map(len, sides)):
        return sorted(sides[0] + sides[1])
    found: list[Scale] = []
    for number in range(limit):
        side = sides[number % 2] or sides[1 - number % 2]
        met = [one.facet for one in found]
        best = min(side, key=lambda one: (met.count(one.facet), one.number))
        side.remove(best)
        found.append(best)
    return found


def orders(number: int) -> dict[str, list[str]]:
    """Return two orders of the answers, of which one has in each place the opposite of what the other has there.

    Whoever picks by place alone is in the middle on average, item by item. Over five items each answer takes each place
    twice.
    """
    shift = number % len(ANSWERS)
    return {
        "forward": [*ANSWERS[shift:], *ANSWERS[:shift]],
        "mirrored": [*ANSWERS[::-1][shift:], *ANSWERS[::-1][:shift]],
    }


def probes(subject: Subject) -> list[Probe]:
    """Return every item at every stage in two orders, and half of them once more in another wording.

    Options are always ``ANSWERS`` from 1 to 5: the order is that in which the question lists them.
    """
    found = []
    for stage in subject.card.stages:
        for trait in BIG_FIVE:
            items = chosen(trait, subject.limit)
            for number, item in enumerate(items):
                ways = [("test", order) for order in ("forward", "mirrored")]
                ways += [("retest", "forward")] if number < len(items) / 2 else []
                found += [_probe(item, stage, wording, order, orders(number)[order]) for wording, order in ways]
    return found


def _probe(item: Scale, stage: str, wording: str, order: str, listed: list[str]) -> Probe:
    return Probe(
        id=f"{stage}-ipip{item.number:03}-{wording}-{order}",
        stage=stage,
        cluster=f"{item.trait}-{item.facet}",
        turns=[WORDINGS[wording].format(item=item.text, answers="\n".join(listed))],
        options=[list(ANSWERS)],
        closing=False,
        seen={"part": "questionnaire", "number": item.number, "wording": wording, "order": order},
    )


def expected(totals: list[float]) -> float:
    """Return the mean answer from 1 to 5 where probabilities are proportional to ``exp(totals)``."""
    top = max(totals)
    weights = [math.exp(total - top) for total in totals]
    return sum(answer * weight for answer, weight in enumerate(weights, 1)) / sum(weights)


def answers(told: list[Told], priors: dict[tuple[str, int], Told]) -> list[Answer]:
    """Return what was answered; probes of other parts are passed over."""
    found = []
    for one in told:
        seen = one.probe.seen
        if seen.get("part") != "questionnaire":
            continue
        totals = [each.total for each in one.likelihoods()]
        before = priors.get((one.probe.id, one.telling.sample))
        gains = before and [mine - its.total for mine, its in zip(totals, before.likelihoods(), strict=True)]
        found.append(
            Answer(
                item=scales()[seen["number"] - 1],
                stage=one.probe.stage,
                wording=seen["wording"],
                order=seen["order"],
                value=expected(totals),
                mass=sum(math.exp(total) for total in totals),
                beyond=expected(gains) if gains else None,
            )
        )
    return found
