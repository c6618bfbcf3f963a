"""Who says what: cues beside each quotation, weighed together over a conversation.

No package attributes speakers offline without a model to download, so these are rules. Each quotation gives every
candidate a score: a tag (`persllm.ingest.tags`), a pronoun's gender, who is called by name, who is named nearby. A
second-order chain then finds the sequence of speakers with the best sum, where two who take turns are likelier than one
who answers himself. Where the best speaker leads the next by less than `MARGIN`, there is no answer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from persllm.ingest.cast import Cast, Person
from persllm.ingest.english import VAGUE
from persllm.ingest.quotes import Turn
from persllm.ingest.tags import Subject, tag_after, tag_before
from persllm.ingest.text import Paragraph, sentences, words

MARGIN = 0.6
PAUSE = 60
"""Words of narration that may stand between two quotations of one conversation."""

_FLOOR = -3.0
_NAMED, _ACTS, _ROLE = 14.0, 4.0, 11.0
_GENDER = 9.0
_CALLED, _ABOUT, _ANSWERS, _ASKED = 5.0, 1.8, 2.5, 1.2
_NEAR = 1.2
_AGAIN, _BACK, _AGAIN_APART, _BACK_APART = -3.0, 2.2, -0.6, 0.6
_RECENT, _KIN, _DECAY, _KEPT = 1.2, 6.0, 0.36, 0.6
_PRESENT, _LATER = 0.6, 1.0
_OBLIQUE = re.compile(r"\b(?:to|of|with|from|at|for|by|on|upon|about|than|and|that|which|in)\s+(?:\w+\s+)?$")
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


@dataclass
class Scene:
    """A conversation: its turns, the narration before each (words outside quotations), and the candidates."""

    turns: list[Turn]
    apart: list[bool] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    recent: list[list[Person]] = field(default_factory=list)


def narration(paragraphs: Sequence[Paragraph], turns: Sequence[Turn]) -> list[str]:
    """Return each paragraph's narration: its text less the quotations."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for turn in turns:
        for index, start, end in turn.spans:
            spans.setdefault(index, []).append((start, end))
    outside = []
    for index, paragraph in enumerate(paragraphs):
        at, kept = 0, ""
        for start, end in sorted(spans.get(index, ())):
            kept += paragraph.text[at:start] + " "
            at = end
        outside.append(kept + paragraph.text[at:])
    return outside


def scenes(
    paragraphs: Sequence[Paragraph], turns: Sequence[Turn], narrators: Sequence[Person | None]
) -> list[Scene]:
    """Cut a chapter's turns into conversations.

    Within one, no more than `PAUSE` words of narration stand between two turns, and the narrator does not change.
    """
    outside = [words(text) for text in narration(paragraphs, turns)]
    found: list[Scene] = []
    for before, turn in zip([None, *turns], turns, strict=False):
        between = sum(outside[before.last + 1 : turn.first]) if before else 0
        lead = words(turn.before)
        if before is None or between + lead > PAUSE or narrators[before.last] is not narrators[turn.first]:
            found.append(Scene([]))
        found[-1].turns.append(turn)
        found[-1].apart.append(between > 0 or lead > 25)
    return found


def vocatives(text: str, cast: Cast) -> tuple[set[int], set[int]]:
    """Return who is called by name in a quotation, and who is named otherwise (ids of people)."""
    called: set[int] = set()
    about: set[int] = set()
    for mention in cast.find(text):
        before, after = text[: mention.start], text[mention.end :]
        lead = re.sub(
            r"(?:\b(?:[Mm]y|[Dd]ear(?:est)?|[Pp]oor|[Oo]h|good|sweet|[Ww]ell|Miss|Mr\.|Mrs\.|friend|cousin|brother|sister),?\s+)+$",
            "",
            before,
        )
        opens = not lead.strip() or lead.rstrip()[-1] in ',!?.;:\u2014-"\u201c'
        closes = re.match(r"\s*(?:[,!?;:.\u2014]|--|$)", after) is not None
        if opens and closes and not re.match(r"\s*,\s*(?:and|who|which|or|I believe)\b", after):
            called.add(id(mention.person))
        else:
            about.add(id(mention.person))
    return called, about - called


def _addressed(text: str) -> list[str]:
    """Return the genders that ``sir`` and ``madam`` tell of who is spoken to."""
    found = re.findall(r"(?:^|[,;!?\u2014-]\s*)(sir|madam|ma['\u2019]am)(?=\s*[,;.!?\u2014-])", text, re.IGNORECASE)
    return sorted({"M" if word.lower() == "sir" else "F" for word in found})


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


def _recent(text: str, cast: Cast) -> dict[int, tuple[Person, float]]:
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


def subjects_of(turn: Turn, lead: str, cast: Cast) -> list[Subject]:
    """Return the subjects that stand beside a turn, the strongest tags only."""
    found: list[Subject | None] = [tag_after(gap, cast) for gap in turn.gaps]
    found.append(tag_after(turn.after, cast) if turn.after else None)
    if turn.before:
        found.append(tag_before(turn.before, cast))
    elif lead.rstrip("- ").endswith((":", ",")) or re.search(r"\bbegan (?:his|her|the) (?:tale|story)", lead):
        found.append(tag_before(lead, cast))
    kept = [subject for subject in found if subject]
    said = [subject for subject in kept if subject.said]
    return said[:1] if said else kept


def _entrances(outside: Sequence[str], start: int, scene: Scene, cast: Cast) -> dict[int, int]:
    """Return the paragraph at which each person is first named, by the narration or by a speaker."""
    found: dict[int, int] = {}
    for row, text in enumerate(outside, start):
        for mention in cast.find(text):
            found.setdefault(id(mention.person), row)
    for turn in scene.turns:
        for person in vocatives(turn.text, cast)[0]:
            found[person] = min(found.get(person, turn.first), turn.first)
    return found


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
    enters = _entrances(outside[max(0, first - 6) : last + 1], max(0, first - 6) - shift, scene, cast)
    for n, turn in enumerate(scene.turns):
        scores[n] -= [_LATER * (enters.get(id(person), -1) > turn.last) for person in scene.people]
        at = turn.first + shift
        head = " ".join(outside[max(0, at - 6) : at]) + " " + turn.before
        recent = _recent(head, cast)
        for subject, role in zip(tags[n], roles[n], strict=True):
            scores[n] += _score_subject(subject, scene, recent, narrator, role)
        signed = _signed(turn, cast)
        if signed and id(signed) in index:
            scores[n, index[id(signed)]] += 2 * _NAMED
        called, about = vocatives(turn.text, cast)
        for who, points in [(called, -_CALLED), (about, -_ABOUT)]:
            for person in who & index.keys():
                scores[n, index[person]] += points
        for person in called & index.keys():
            if n + 1 < len(scene.turns):
                scores[n + 1, index[person]] += _ANSWERS
            if n and not scene.apart[n]:
                scores[n - 1, index[person]] += _ASKED
        for gender in _addressed(turn.text):
            for i, person in enumerate(scene.people):
                fit = _NEAR if person.gender == gender else -_NEAR if person.gender else 0.0
                for other in (n - 1, n + 1):
                    if 0 <= other < len(scene.turns) and not scene.apart[max(n, other)]:
                        scores[other, i] += fit
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


def _chain(scores: np.ndarray, scene: Scene) -> np.ndarray:
    """Return the best sum of a sequence through each (turn, speaker): max-marginals of a second-order chain."""
    turns, people = scores.shape
    same = np.eye(people)

    def step(n: int) -> np.ndarray:
        """Points for speakers (n-2, n-1, n)."""
        again, back = (_AGAIN_APART, _BACK_APART) if scene.apart[n] else (_AGAIN, _BACK)
        if scene.turns[n].first == scene.turns[n - 1].last:
            again, back = 0.5, 0.5
        points = np.broadcast_to(again * same, (people, people, people)).copy()
        if n >= 2:
            points += back * same[:, None, :] * (1 - same)[None, :, :]
        return points

    if turns == 1:
        return scores
    forward = [np.zeros((people, people))] * turns
    forward[1] = scores[0][:, None] + scores[1][None, :] + step(1)[0]
    for n in range(2, turns):
        forward[n] = (forward[n - 1][:, :, None] + step(n)).max(axis=0) + scores[n][None, :]
    backward = np.zeros((people, people))
    best = np.zeros_like(scores)
    for n in range(turns - 1, 0, -1):
        total = forward[n] + backward
        best[n] = total.max(axis=0)
        if n == 1:
            best[0] = total.max(axis=1)
        else:
            backward = (step(n) + (scores[n][None, :] + backward)[None, :, :]).max(axis=2)
    return best


def _signed(turn: Turn, cast: Cast) -> Person | None:
    """Return who signs a quotation of several paragraphs: a letter."""
    last = turn.parts[-1].strip(" ._")
    if turn.first == turn.last or len(last.split()) > 8:
        return None
    named = [m for m in cast.find(last.title() if last.isupper() else last) if m.end == len(last)]
    return named[-1].person if named else None


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
        best = _chain(scores, scene)
        for n, (row, turn) in enumerate(zip(best, scene.turns, strict=True)):
            first = int(row.argmax())
            rest = np.delete(row, first)
            if scores[n, first] > _FLOOR and (not rest.size or row[first] - rest.max() >= MARGIN):
                turn.speaker = scene.people[first].name
