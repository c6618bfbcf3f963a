"""Which arms meet on which item: a round robin, so that every arm meets every other about equally often."""

from __future__ import annotations

from typing import NamedTuple


class Meeting(NamedTuple):
    """Two arms on one item, by their places."""

    item: int
    first: int
    second: int


def rounds(arms: int) -> list[list[tuple[int, int]]]:
    """Return the rounds of a tournament (circle method): in each, every arm meets one other, or rests if odd in number.

    Every pair meets in exactly one round.
    """
    places: list[int | None] = [*range(arms), *([None] if arms % 2 else [])]
    found = []
    for _ in range(len(places) - 1):
        half = len(places) // 2
        pairs = zip(places[:half], reversed(places[half:]), strict=True)
        found.append([(min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None])
        places = [places[0], places[-1], *places[1:-1]]
    return found


def meetings(arms: int, items: int, limit: int) -> list[Meeting]:
    """Return at most ``limit`` meetings, spread over items and pairs as evenly as may be.

    Each item takes one round, items in turn; once every item has one, each takes the next. A whole number of rounds is
    made, so that every arm has as many meetings as any other (one less where it rested).

    Args:
        arms: how many.
        items: how many.
        limit: of meetings; each is asked for twice, in both orders.
    """
    plan = rounds(arms) if arms > 1 else []
    found: list[Meeting] = []
    for lap in range(len(plan)):
        for item in range(items):
            pairs = plan[(item + lap) % len(plan)]
            if len(found) + len(pairs) > limit:
                return found
            found += [Meeting(item, first, second) for first, second in pairs]
    return found


def is_connected(arms: int, met: list[Meeting]) -> bool:
    """Return whether every arm can be ranked against every other, by way of those between."""
    group = list(range(arms))
    for meeting in met:
        old, new = group[meeting.second], group[meeting.first]
        group = [new if one == old else one for one in group]
    return len(set(group)) <= 1
