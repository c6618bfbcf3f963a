"""Who says what: cues beside each quotation, weighed together over a conversation.

No package attributes speakers offline without a model to download, so these are rules. Each quotation gives every
candidate a score: a tag (`persllm.ingest.tags`), a pronoun's gender, who is called by name, who is named nearby. A
second-order chain then finds the sequence of speakers with the best sum, where two who take turns are likelier than one
who answers himself. Where the best speaker leads the next by less than `MARGIN`, there is no answer.

Of the speakers given, 66 to 87 of a hundred are right, from novel to novel; of those whom a tag names, 76 to 98.
About one quotation in seven gets no answer. Counts and novels are in ``tests/test_ingest_novels.py``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from persllm.ingest.cast import Cast, Person
from persllm.ingest.chain import best_sums
from persllm.ingest.english import VAGUE
from persllm.ingest.presence import addressed, entrances, recently, vocatives
from persllm.ingest.quotes import Turn
from persllm.ingest.scenes import Scene, narration, scenes
from persllm.ingest.tags import Subject, subjects_of
from persllm.ingest.text import Paragraph

MARGIN = 0.6
# The weights were set by trying each larger and smaller on three novels with published annotations.
_FLOOR = -3.0
_NAMED, _ACTS, _ROLE = 14.0, 4.0, 11.0
_GENDER = 9.0
_CALLED, _ABOUT, _ANSWERS, _ASKED = 5.0, 1.8, 2.5, 0.7
_NEAR = 1.2
_RECENT, _KIN = 1.2, 6.0
_PRESENT, _LATER = 0.6, 1.0
_CHILDREN = {"sister": "F", "brother": "M", "daughter": "F", "son": "M"}
_PARENTS = {
    "wife": "Mrs.",
    "lady": "Mrs.",
    "husband": "Mr.",
    "mother": "Mrs.",
    "father": "Mr.",
    "mamma": "Mrs.",
    "papa": "Mr.",
}


def _candidates(scene: Scene, cast: Cast, around: str, narrator: Person | None, subjects: list[Subject | None]) -> None:
    order: dict[int, Person] = {}
    for subject in subjects:
        if subject and subject.mention:
            order[id(subject.mention.person)] = subject.mention.person
    for mention in reversed(cast.find(around)):
        order.setdefault(id(mention.person), mention.person)
    if narrator:
        order[id(narrator)] = narrator
    if any(subject and subject.kin in _PARENTS for subject in subjects):
        # A husband or a wife may speak before either is named.
        couples = {p.family for p in order.values() if p.family}
        order |= {id(p): p for p in cast.people if p.family in couples and p.name.startswith(("Mr.", "Mrs."))}
    for turn in scene.turns:
        signed = _signed(turn, cast)
        if signed:
            order[id(signed)] = signed
        called = vocatives(turn.text, cast)[0]
        order |= {id(p): p for p in cast.people if id(p) in called and not p.vague}
    scene.people = list(order.values())[:20]
    if narrator and narrator not in scene.people:
        scene.people.append(narrator)


def _role(subject: Subject, cast: Cast) -> Person | None:
    """Return the nameless speaker that a tag's noun stands for, or None where it is a tie to somebody else."""
    if not subject.phrase or not subject.said:
        return None
    if subject.kin and subject.owner in ("his", "her", "their"):
        return None
    if subject.owner in ("the", "a", "an", "one of", "another", "my", "our"):
        if subject.owner != "my" and set(subject.phrase.lower().split()[1:]) <= VAGUE:
            return None
        owner = "the" if subject.owner in ("a", "an") else subject.owner
        phrase = subject.phrase if owner != "the" else f"the {subject.phrase.split(' ', 1)[1]}"
        return cast.role(phrase, subject.gender)
    return None


def _relative(subject: Subject, scene: Scene, recent: dict[int, tuple[Person, float]]) -> Person | None:
    """Return the relative of the latest person that ``his`` or ``her`` may mean, by their family's name."""
    owner = {"his": "M", "her": "F"}.get(subject.owner)
    title, gender = _PARENTS.get(subject.kin), _CHILDREN.get(subject.kin)
    if not owner or not (title or gender):
        return None
    couple = subject.kin in ("wife", "lady", "husband")
    for person in [p for p, _ in recent.values()] + scene.people:
        if person.gender != owner or not person.family or (couple and not person.name.startswith(("Mr.", "Mrs."))):
            continue
        for other in scene.people:
            same = other.family == person.family and other is not person and not other.vague
            if same and title and other.name.startswith(f"{title} "):
                return other
            # The parents of a family are nobody's brother or sister, unless nobody else is there.
            if same and gender == other.gender and other.name.split()[0] != "Mrs.":
                return other
    return None


def _score_subject(
    subject: Subject,
    scene: Scene,
    recent: dict[int, tuple[Person, float]],
    narrator: Person | None,
    role: Person | None,
) -> np.ndarray:
    """Return what one tag says for each candidate."""
    scores = np.zeros(len(scene.people))
    weight = 1.0 if subject.said else _ACTS / _NAMED
    if subject.pronoun in ("i", "we"):
        return np.array([_NAMED * weight if person is narrator else 0.0 for person in scene.people])
    if subject.mention:
        return np.array([_NAMED * weight if person is subject.mention.person else 0.0 for person in scene.people])
    if role:
        return np.array([_ROLE * weight if person is role else 0.0 for person in scene.people])
    gender = {"he": "M", "she": "F"}.get(subject.pronoun, subject.gender)
    if subject.pronoun == "they" or not (gender or subject.kin):
        return scores
    strength = 1.0 if subject.said else 0.6
    fits = {key: weight for key, (person, weight) in recent.items() if person.gender in ("", gender) or not gender}
    top = max(fits.values(), default=1.0)
    parent = _relative(subject, scene, recent)
    for i, person in enumerate(scene.people):
        if not subject.kin:
            scores[i] += _RECENT * strength * fits.get(id(person), 0.0) / top
        if gender and person.gender and person.gender != gender:
            scores[i] -= _GENDER * strength
        if person is narrator:
            scores[i] -= _GENDER
        if person is parent:
            scores[i] += _KIN
    return scores


def _add_words(scores: np.ndarray, scene: Scene, n: int, cast: Cast) -> None:
    """Add what a turn's own words say of its speaker and of those before and after: names, ``sir`` and ``madam``."""
    index = {id(person): i for i, person in enumerate(scene.people)}
    called, about = vocatives(scene.turns[n].text, cast)
    for who, points in [(called, -_CALLED), (about, -_ABOUT)]:
        for person in who & index.keys():
            scores[n, index[person]] += points
    for person in called & index.keys():
        if n + 1 < len(scene.turns):
            scores[n + 1, index[person]] += _ANSWERS
        if n and not scene.apart[n]:
            scores[n - 1, index[person]] += _ASKED
    beside = [m for m in (n - 1, n + 1) if 0 <= m < len(scene.turns) and not scene.apart[max(n, m)]]
    for gender in addressed(scene.turns[n].text):
        fits = [_NEAR if person.gender == gender else -_NEAR if person.gender else 0.0 for person in scene.people]
        for other in beside:
            scores[other] += fits


def _emissions(scene: Scene, outside: list[str], shift: int, cast: Cast, narrator: Person | None) -> np.ndarray:
    """Return the points of every (turn, candidate); a turn's paragraph ``first`` is ``outside[first + shift]``."""
    tags: list[list[Subject]] = []
    roles: list[list[Person | None]] = []
    for turn in scene.turns:
        at = turn.first + shift
        lead = outside[at - 1] if at else ""
        tags.append(subjects_of(turn, lead, cast))
        roles.append([_role(subject, cast) for subject in tags[-1]])
    first, last = scene.turns[0].first + shift, scene.turns[-1].last + shift
    around = " ".join(outside[max(0, first - 6) : last + 1])
    _candidates(scene, cast, around, narrator, [s for group in tags for s in group])
    for role in (r for group in roles for r in group if r):
        if role not in scene.people:
            scene.people.append(role)
    index = {id(person): i for i, person in enumerate(scene.people)}
    named = Counter(id(mention.person) for mention in cast.find(around))
    present = [_PRESENT * math.log1p(0.0 if person.vague else named[id(person)]) for person in scene.people]
    scores = np.tile(np.array(present), (len(scene.turns), 1))
    enters = entrances(outside[max(0, first - 6) : last + 1], max(0, first - 6) - shift, scene, cast)
    for n, turn in enumerate(scene.turns):
        scores[n] -= [_LATER * (enters.get(id(person), -1) > turn.last) for person in scene.people]
        at = turn.first + shift
        head = " ".join(outside[max(0, at - 6) : at]) + " " + turn.before
        recent = recently(head, cast)
        for subject, role in zip(tags[n], roles[n], strict=True):
            scores[n] += _score_subject(subject, scene, recent, narrator, role)
        signed = _signed(turn, cast)
        if signed and id(signed) in index:
            scores[n, index[id(signed)]] += 2 * _NAMED
        _add_words(scores, scene, n, cast)
        for m in cast.find(" ".join([turn.before, *turn.gaps, turn.after])):
            if id(m.person) in index:
                scores[n, index[id(m.person)]] += _NEAR
        latest = [key for key in recent if key in index]
        if scene.apart[n] and latest and not turn.before:
            scores[n, index[latest[0]]] += _NEAR
        for key in latest[:4] if n == 0 else ():
            scores[n, index[key]] += 0.4
    if narrator and not any(s.pronoun == "i" for group in tags for s in group):
        scores[:, index[id(narrator)]] -= 0.5
    return scores


def _signed(turn: Turn, cast: Cast) -> Person | None:
    """Return who signs a quotation of several paragraphs: a letter."""
    # A place and a date may follow the name.
    for part in reversed(turn.parts[-2:] if turn.last > turn.first else []):
        line = part.strip(" ._")
        named = [m for m in cast.find(line.title() if line.isupper() else line) if m.end == len(line)]
        if named and len(line.split()) <= 8:
            return named[-1].person
    return None


def add_roles(turns: Iterable[Turn], cast: Cast) -> None:
    """Add the nameless speakers of a book to its cast, so that their mentions count before they first speak."""
    for turn in turns:
        for subject in subjects_of(turn, "", cast):
            _role(subject, cast)


def attribute(
    paragraphs: Sequence[Paragraph],
    turns: Sequence[Turn],
    cast: Cast,
    narrators: Sequence[Person | None],
    lead: Sequence[str] = (),
) -> None:
    """Set each turn's ``speaker`` to a name of the cast, or leave None where no rule decides.

    Args:
        paragraphs: one chapter's.
        turns: its quotations, from `persllm.ingest.quotes.mark`.
        cast: the people of the book; nameless speakers (``the old man``) are added to it.
        narrators: for each paragraph, who says ``I`` outside the quotations; None where nobody does.
        lead: the narration that goes before the chapter.
    """
    outside = [*lead, *narration(paragraphs, turns)]
    for scene in scenes(paragraphs, turns, narrators):
        scores = _emissions(scene, outside, len(lead), cast, narrators[scene.turns[0].first])
        if not scores.shape[1]:
            continue
        best = best_sums(scores, scene)
        for n, (row, turn) in enumerate(zip(best, scene.turns, strict=True)):
            first = int(row.argmax())
            rest = np.delete(row, first)
            if scores[n, first] > _FLOOR and (not rest.size or row[first] - rest.max() >= MARGIN):
                turn.speaker = scene.people[first].name
