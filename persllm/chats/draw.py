"""Draw some of many turns, seeded, without holding more of them than are wanted."""

from __future__ import annotations

import hashlib
import heapq

from persllm.chats.turns import Turn
from persllm.identity import canonical


def rank(seed: int, question: str, answer: str) -> int:
    """Return a turn's place in the order in which turns are drawn: a hash, so that it depends on its texts alone."""
    return int.from_bytes(hashlib.sha256(canonical([seed, question, answer])).digest()[:16])


def quotas(weights: list[float], total: int) -> list[int]:
    """Return how many of ``total`` each weight gets: rounded down, what is left to the largest remainders."""
    shares = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda place: counts[place] - shares[place])
    for place in by_remainder[: total - sum(counts)]:
        counts[place] += 1
    return counts


class Draw:
    """The turns of lowest rank: a uniform sample without repetitions, the same in whatever order rows come.

    A smaller limit draws a part of what a larger one draws.

    Args:
        limit: how many turns are wanted.
        seed: of their ranks.
        taken: ranks of turns that another source gave already.
    """

    def __init__(self, limit: int, seed: int, taken: frozenset[int] = frozenset()) -> None:
        self.limit, self.seed, self.taken = limit, seed, taken
        self._kept: dict[int, tuple[Turn, str]] = {}
        self._repeats = dict.fromkeys(taken, 0)
        self._heap: list[int] = []

    def add(self, turn: Turn, place: str) -> None:
        """Offer a turn and where it stands."""
        own = rank(self.seed, turn.question, turn.answer)
        if own in self._repeats:
            self._repeats[own] += 1
            return
        if len(self._heap) == self.limit:
            if own > -self._heap[0]:
                return
            gone = -heapq.heapreplace(self._heap, -own)
            del self._kept[gone], self._repeats[gone]
        else:
            heapq.heappush(self._heap, -own)
        self._kept[own] = turn, place
        self._repeats[own] = 0

    @property
    def duplicates(self) -> int:
        """How many of the offered turns had the same question and answer as one that is drawn, or was taken before."""
        return sum(self._repeats.values())

    def drawn(self) -> list[tuple[int, Turn, str]]:
        """Return the drawn turns with their ranks and places, lowest rank first."""
        return [(own, *self._kept[own]) for own in sorted(self._kept)]
