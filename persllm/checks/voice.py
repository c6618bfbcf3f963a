"""Do the packs carry a voice? A plain classifier names who speaks in held-out responses, names masked.

The classifier of persllm.voice is trained on speech paragraphs. The paragraph its question was written from is held
out, and so is what was retrieved for the response.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from persllm.checks.reading import Data
from persllm.voice import identify, mask

FOLDS = 5


@dataclass(frozen=True)
class Spoken:
    """A text and who speaks it."""

    label: str
    text: str
    material: str
    """The paragraph its question was written from; a paragraph's own id."""
    retrieved: frozenset[str] = frozenset()
    """The paragraphs that its writer was shown."""


@dataclass(frozen=True)
class Voice:
    """How often a classifier named the right speaker."""

    labels: list[str]
    confusion: list[list[int]]
    """``[who speaks][who was named]``, in the order of ``labels``."""
    trained: int
    """Speech paragraphs."""
    untried: int = 0
    """Responses left out because a speaker had no paragraph left to train on."""

    @property
    def tested(self) -> int:
        """How many responses were tried."""
        return sum(map(sum, self.confusion))

    @property
    def right(self) -> int:
        """How many were named rightly."""
        return sum(row[i] for i, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of responses named rightly."""
        return self.right / self.tested

    @property
    def chance(self) -> float:
        """The share that always naming the most frequent speaker gets right."""
        return max(map(sum, self.confusion)) / self.tested

    @property
    def p(self) -> float:
        """The probability of so many right ones or more by chance (exact binomial test, one side)."""
        from scipy.stats import binom

        return float(binom.sf(self.right - 1, self.tested, self.chance))


def _fold(material: str) -> int:
    return int.from_bytes(sha256(material.encode()).digest()[:4]) % FOLDS


def _in_turns(responses: Sequence[Spoken]) -> list[int]:
    """Return the responses' places, one of each speaker by turns."""
    met: Counter[str] = Counter()
    turns = []
    for place, one in enumerate(responses):
        turns.append((met[one.label], place))
        met[one.label] += 1
    return [place for _, place in sorted(turns)]


def _rounds(speech: Sequence[Spoken], responses: Sequence[Spoken]) -> list[tuple[set[str], list[int]]]:
    """Return rounds: paragraphs that are held out, and the responses (by place) that are tried without them.

    Each holds out a fold's paragraphs, among which the responses' own ones are, and what was retrieved for the
    responses; so many go together that no speaker loses more than another fold's worth by it, or a single one goes.
    """
    rounds: list[tuple[set[str], list[int]]] = []
    for fold in range(FOLDS):
        own = {one.material for one in speech if _fold(one.material) == fold}
        left: dict[str, set[str]] = {one.label: set() for one in speech}
        for one in speech:
            left[one.label] |= {one.material} - own
        more: list[tuple[set[str], list[int]]] = []
        for place in _in_turns(responses):
            if _fold(responses[place].material) != fold:
                continue
            shown = responses[place].retrieved & set().union(*left.values())
            if not more or any(len((more[-1][0] | shown) & names) * FOLDS > len(names) for names in left.values()):
                more.append((set(), []))
            more[-1][0].update(shown)
            more[-1][1].append(place)
        rounds += [(own | _even(held, left), places) for held, places in more]
    return rounds


def _even(held: set[str], left: Mapping[str, set[str]]) -> set[str]:
    """Return what is held out with more added, so that every speaker loses the same share of what it has left.

    What was retrieved is the right speaker's: holding out that alone would teach who it is not.
    """
    share = max((len(held & names) / len(names) for names in left.values() if names), default=0.0)
    found = set(held)
    for names in left.values():
        rest = sorted(names - held, key=lambda name: sha256(name.encode()).digest())
        found.update(rest[: round(share * len(names)) - len(names & held)])
    return found


def held_out(speech: Sequence[Spoken], responses: Sequence[Spoken], names: Iterable[str]) -> Voice | None:
    """Return how well speakers are told.

    Each response is tried on a classifier that saw neither the paragraph its question was written from nor those that
    were retrieved for it, where that was recorded.

    Args:
        speech: paragraphs to train on; their material is their own id.
        responses: what is named.
        names: words that are masked besides those with a capital inside a sentence.

    Returns:
        None where there are not two speakers with paragraphs and responses.
    """
    labels = list(dict.fromkeys(one.label for one in speech))
    labels = [label for label in labels if any(one.label == label for one in responses)]
    speech, responses = ([one for one in texts if one.label in labels] for texts in (speech, responses))
    if len(labels) < 2:
        return None
    masked = mask([one.text for one in (*speech, *responses)], names)
    known, asked = masked[: len(speech)], masked[len(speech) :]
    confusion = [[0] * len(labels) for _ in labels]
    untried = 0
    for held, places in _rounds(speech, responses):
        test = [(responses[place].label, asked[place]) for place in places]
        train = [(one.label, text) for one, text in zip(speech, known, strict=True) if one.material not in held]
        if len({label for label, _ in train}) < len(labels):
            untried += len(test)
            continue
        for (label, _), told in zip(test, identify(train, test)[1], strict=True):
            confusion[labels.index(label)][labels.index(told)] += 1
    return Voice(labels, confusion, len(speech), untried) if any(map(any, confusion)) else None


def _texts(data: Data, prefix: str = "") -> tuple[list[Spoken], list[Spoken]]:
    """Return a persona's speech paragraphs and its responses, labelled by stage."""
    speech = [Spoken(prefix + m.stage, m.text, m.id) for m in data.materials if m.kind == "speech"]
    origin = {item.id: item.material_id for item in data.items}
    responses = [
        Spoken(prefix + item.stage, item.response, item.material_id, frozenset(item.retrieved)) for item in data.items
    ]
    responses += [
        Spoken(prefix + r.stage, r.response, origin[r.item_id], frozenset(r.retrieved))
        for r in data.reanswers
        if r.item_id in origin
    ]
    return speech, responses


def stages(data: Data, names: Iterable[str]) -> Voice | None:
    """Return how well one persona's stages are told apart; its re-answers let both stages answer the same questions."""
    return held_out(*_texts(data), names)


def speakers(several: Sequence[Data], names: Iterable[str]) -> Voice | None:
    """Return how well several personas are told apart.

    A persona speaks in as many voices as it has stages: the classifier learns each of them, and is right where it names
    any stage of the right persona.
    """
    both = [_texts(data, f"{place}/") for place, data in enumerate(several)]
    apart = held_out([one for speech, _ in both for one in speech], [one for _, told in both for one in told], names)
    if apart is None:
        return None
    owners = [int(label.partition("/")[0]) for label in apart.labels]
    kept = sorted(set(owners))
    confusion = [[0] * len(kept) for _ in kept]
    for owner, row in zip(owners, apart.confusion, strict=True):
        for other, count in zip(owners, row, strict=True):
            confusion[kept.index(owner)][kept.index(other)] += count
    labels = [several[place].name for place in kept]
    return Voice(labels, confusion, apart.trained, apart.untried) if len(kept) > 1 else None
