"""Who says what: cues beside each quotation, weighed together over a conversation.

No package attributes speakers offline without a model to download, so these are rules. Each quotation gives every
candidate a score: a tag (`persllm.ingest.tags`), a pronoun's gender, who is called by name, who is named nearby. A
second-order chain then finds the sequence of speakers with the best sum, where two who take turns are likelier than one
who answers himself. Where the best speaker leads the next by less than `MARGIN`, there is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from persllm.ingest.cast import Cast, Person
from persllm.ingest.quotes import Turn
from persllm.ingest.tags import Subject, tag_after, tag_before
from persllm.ingest.text import Paragraph, words

MARGIN = 0.6
PAUSE = 60
"""Words of narration that may stand between two quotations of one conversation."""

_NAMED, _ACTS, _ROLE = 14.0, 4.0, 11.0
_GENDER = 9.0
_CALLED, _ABOUT, _ANSWERS, _ASKED = 5.0, 1.2, 2.5, 1.2
_NEAR, _SUBJECT = 0.8, 2.0
_AGAIN, _BACK, _AGAIN_APART, _BACK_APART = -3.0, 2.2, -0.6, 1.0
_RECENT = (2.4, 1.2, 0.6)
_PARENTS = {"wife": "Mrs.", "lady": "Mrs.", "husband": "Mr.", "mother": "Mrs.", "father": "Mr.", "mamma": "Mrs.", "papa": "Mr."}


@dataclass
class Scene:
    """A conversation: its turns, the narration before each (words outside quotations), and the candidates."""

    turns: list[Turn]
    apart: list[bool] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    recent: list[list[Person]] = field(default_factory=list)


def _outside(paragraphs: Sequence[Paragraph], turns: Sequence[Turn]) -> list[str]:
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


def scenes(paragraphs: Sequence[Paragraph], turns: Sequence[Turn]) -> list[Scene]:
    """Cut a chapter's turns into conversations: no more than `PAUSE` words of narration between two of them."""
    outside = [words(text) for text in _outside(paragraphs, turns)]
    found: list[Scene] = []
    for before, turn in zip([None, *turns], turns, strict=False):
        between = sum(outside[before.last + 1 : turn.first]) if before else 0
        lead = words(turn.before)
        if before is None or between + lead > PAUSE:
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
        lead = re.sub(r"(?:\b(?:[Mm]y|[Dd]ear(?:est)?|[Pp]oor|[Oo]h|good|sweet|[Ww]ell|Miss|Mr\.|Mrs\.|friend|cousin|brother|sister),?\s+)+$", "", before)
        opens = not lead.strip() or lead.rstrip()[-1] in ",!?.;:\u2014-\"\u201c"
        closes = re.match(r"\s*(?:[,!?;:.\u2014]|--|$)", after) is not None
        if opens and closes and not re.match(r"\s*,\s*(?:and|who|which|or|I believe)\b", after):
            called.add(id(mention.person))
        else:
            about.add(id(mention.person))
    return called, about - called


def _candidates(scene: Scene, cast: Cast, around: str, narrator: Person | None, subjects: list[Subject | None]) -> None:
    order: dict[int, Person] = {}
    for subject in subjects:
        if subject and subject.mention:
            order[id(subject.mention.person)] = subject.mention.person
    for mention in reversed(cast.find(around)):
        order.setdefault(id(mention.person), mention.person)
    if narrator:
        order[id(narrator)] = narrator
    for turn in scene.turns:
        called = vocatives(turn.text, cast)[0]
        order |= {id(p): p for p in cast.people if id(p) in called}
    scene.people = list(order.values())[:16]
    if narrator and narrator not in scene.people:
        scene.people.append(narrator)


def _role(subject: Subject, cast: Cast, scene: Scene, narrator: Person | None) -> Person | None:
    """Return the nameless speaker that a tag's noun stands for, or None where it is a tie to somebody else."""
    if not subject.phrase or not subject.said:
        return cast.by_name.get(subject.phrase)
    if subject.kin and subject.owner in ("his", "her", "their"):
        return None
    if subject.owner in ("the", "a", "an", "one of", "another", "my", "our"):
        owner = "the" if subject.owner in ("a", "an") else subject.owner
        phrase = subject.phrase if owner != "the" else f"the {subject.phrase.split(' ', 1)[1]}"
        return cast.role(phrase, subject.gender)
    return None


def _score_subject(subject: Subject, scene: Scene, recent: list[Person], narrator: Person | None, role: Person | None) -> np.ndarray:
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
    fits = [person for person in recent if not gender or person.gender in ("", gender)]
    for person, bonus in zip((p for p in fits if p is not narrator), _RECENT, strict=False):
        if person in scene.people:
            scores[scene.people.index(person)] += bonus * (1.0 if subject.said else 0.6)
    for i, person in enumerate(scene.people):
        if gender and person.gender and person.gender != gender:
            scores[i] -= _GENDER * (1.0 if subject.said else 0.5)
        if person is narrator:
            scores[i] -= _GENDER
        title = _PARENTS.get(subject.kin)
        if title and person.name.startswith(title) and any(p.family == person.family for p in recent if p is not person):
            scores[i] += 4.0
    return scores


def _recent(text: str, cast: Cast) -> list[Person]:
    """Return the people of a text, the last named first."""
    order: dict[int, Person] = {}
    for mention in reversed(cast.find(text)):
        if not re.match(r"['\u2019]s?\s", text[mention.end :]):
            order.setdefault(id(mention.person), mention.person)
    return list(order.values())


def subjects_of(turn: Turn, lead: str, cast: Cast) -> list[Subject]:
    """Return the subjects that stand beside a turn, the strongest tags only."""
    found: list[Subject | None] = [tag_after(gap, cast) for gap in turn.gaps]
    found.append(tag_after(turn.after, cast) if turn.after else None)
    if turn.before:
        found.append(tag_before(turn.before, cast))
    elif lead.rstrip().endswith((":", ",", "--")) or re.search(r"\bbegan (?:his|her|the) (?:tale|story)", lead):
        found.append(tag_before(lead, cast))
    kept = [subject for subject in found if subject]
    said = [subject for subject in kept if subject.said]
    return said[:1] if said else kept


def _emissions(scene: Scene, paragraphs: Sequence[Paragraph], outside: list[str], cast: Cast, narrator: Person | None) -> np.ndarray:
    tags: list[list[Subject]] = []
    roles: list[list[Person | None]] = []
    for turn in scene.turns:
        lead = outside[turn.first - 1] if turn.first else ""
        tags.append(subjects_of(turn, lead, cast))
        roles.append([_role(subject, cast, scene, narrator) for subject in tags[-1]])
    cast.settle()
    first, last = scene.turns[0].first, scene.turns[-1].last
    around = " ".join(outside[max(0, first - 6) : last + 1])
    _candidates(scene, cast, around, narrator, [s for group in tags for s in group])
    for role in (r for group in roles for r in group if r):
        if role not in scene.people:
            scene.people.append(role)
    index = {id(person): i for i, person in enumerate(scene.people)}
    scores = np.zeros((len(scene.turns), len(scene.people)))
    for n, turn in enumerate(scene.turns):
        head = " ".join(outside[max(0, turn.first - 6) : turn.first]) + " " + turn.before
        recent = _recent(head, cast)
        for subject, role in zip(tags[n], roles[n], strict=True):
            scores[n] += _score_subject(subject, scene, recent, narrator, role)
        called, about = vocatives(turn.text, cast)
        for who, points in [(called, -_CALLED), (about, -_ABOUT)]:
            for person in who & index.keys():
                scores[n, index[person]] += points
        for person in called & index.keys():
            if n + 1 < len(scene.turns):
                scores[n + 1, index[person]] += _ANSWERS
            if n and not scene.apart[n]:
                scores[n - 1, index[person]] += _ASKED
        for m in cast.find(" ".join([turn.before, *turn.gaps, turn.after])):
            if id(m.person) in index:
                scores[n, index[id(m.person)]] += _NEAR
        if scene.apart[n] and recent and not turn.before and id(recent[0]) in index:
            scores[n, index[id(recent[0])]] += _NEAR
        if n == 0:
            for person in recent[:4]:
                if id(person) in index:
                    scores[n, index[id(person)]] += 0.4
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


def attribute(paragraphs: Sequence[Paragraph], turns: Sequence[Turn], cast: Cast, narrator: Person | None) -> None:
    """Set each turn's ``speaker`` to a name of the cast, or leave None where no rule decides.

    Args:
        paragraphs: one chapter's.
        turns: its quotations, from `persllm.ingest.quotes.mark`.
        cast: the people of the book; nameless speakers (``the old man``) are added to it.
        narrator: who says ``I`` outside the quotations, or None where nobody is known to.
    """
    outside = _outside(paragraphs, turns)
    for scene in scenes(paragraphs, turns):
        scores = _emissions(scene, paragraphs, outside, cast, narrator)
        if not scores.shape[1]:
            continue
        best = _chain(scores, scene)
        for row, turn in zip(best, scene.turns, strict=True):
            first = int(row.argmax())
            rest = np.delete(row, first)
            if not rest.size or row[first] - rest.max() >= MARGIN:
                turn.speaker = scene.people[first].name
