"""Who is there: whom the narration before a quotation names, and whom a quotation speaks to or of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from persllm.ingest.cast import Cast, Person
from persllm.ingest.scenes import Scene
from persllm.ingest.text import sentences

_DECAY, _KEPT = 0.36, 0.6
_OBLIQUE = re.compile(r"\b(?:to|of|with|from|at|for|by|on|upon|about|than|and|that|which|in)\s+(?:\w+\s+)?$")
_DEAR = re.compile(
    r"(?:\b(?:[Mm]y|[Dd]ear(?:est)?|[Pp]oor|[Oo]h|good|sweet|[Ww]ell|Miss|Mr\.|Mrs\.|friend|cousin|brother|sister),?\s+)+$"
)


def vocatives(text: str, cast: Cast) -> tuple[set[int], set[int]]:
    """Return who is called by name in a quotation, and who is named otherwise (ids of people)."""
    called: set[int] = set()
    about: set[int] = set()
    for mention in cast.find(text):
        before, after = text[: mention.start], text[mention.end :]
        lead = _DEAR.sub("", before)
        opens = not lead.strip() or lead.rstrip()[-1] in ',!?.;:\u2014-"\u201c'
        closes = re.match(r"\s*(?:[,!?;:.\u2014]|--|$)", after) is not None
        if opens and closes and not re.match(r"\s*,\s*(?:and|who|which|or|I believe)\b", after):
            called.add(id(mention.person))
        else:
            about.add(id(mention.person))
    return called, about - called


def addressed(text: str) -> list[str]:
    """Return the genders that ``sir`` and ``madam`` tell of who is spoken to."""
    found = re.findall(r"(?:^|[,;!?\u2014-]\s*)(sir|madam|ma['\u2019]am)(?=\s*[,;.!?\u2014-])", text, re.IGNORECASE)
    return sorted({"M" if word.lower() == "sir" else "F" for word in found})


def recently(text: str, cast: Cast) -> dict[int, tuple[Person, float]]:
    """Return how present each person is at the end of a narration: subjects and late mentions more.

    A ``she`` keeps the woman present who was so most.
    """
    weights: dict[int, tuple[Person, float]] = {}
    for sentence in sentences(text)[-12:]:
        weights = {key: (person, weight * _DECAY) for key, (person, weight) in weights.items()}
        for number, mention in enumerate(cast.find(sentence)):
            owned = re.match(r"['\u2019]s?\s", sentence[mention.end :]) is not None
            part = 0.25 if owned else 1.0 if number or _OBLIQUE.search(sentence[: mention.start]) else 1.8
            part *= 0.3 if mention.person.vague else 1.0
            _, sofar = weights.get(id(mention.person), (None, 0.0))
            weights[id(mention.person)] = mention.person, sofar + part
        for pronoun, gender in (("he", "M"), ("she", "F")):
            those = [key for key, (person, _) in weights.items() if person.gender == gender]
            if those and re.search(rf"\b{pronoun}\b", sentence, re.IGNORECASE):
                best = max(those, key=lambda key: weights[key][1])
                weights[best] = weights[best][0], weights[best][1] + _KEPT
    return dict(sorted(weights.items(), key=lambda entry: -entry[1][1]))


def entrances(outside: Sequence[str], start: int, scene: Scene, cast: Cast) -> dict[int, int]:
    """Return the paragraph at which each person is first named, by the narration or by a speaker."""
    found: dict[int, int] = {}
    for row, text in enumerate(outside, start):
        for mention in cast.find(text):
            found.setdefault(id(mention.person), row)
    for turn in scene.turns:
        for person in vocatives(turn.text, cast)[0]:
            found[person] = min(found.get(person, turn.first), turn.first)
    return found
