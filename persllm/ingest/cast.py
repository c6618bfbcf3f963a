"""Who there is: the people of a text, the names that each goes by, their gender."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from persllm.ingest.english import FEMALE_TITLES, MALE_TITLES, NICKNAMES, NO_NAMES, SAYING, TITLES
from persllm.ingest.text import sentences

_CAP = r"[A-Z\u00c0-\u00de][a-z\u00df-\u00ff]+(?:-[A-Z][a-z]+)?"
_TITLE = rf"(?:{'|'.join(sorted(TITLES, key=len, reverse=True))})"
_TITLED = re.compile(rf"\b({_TITLE})\b\.?\s+((?:(?:de|De|von|Von|van|le|La)\s+)?{_CAP}(?:\s+(?:de\s+|De\s+)?{_CAP})?)")
_BARE = re.compile(rf"(?<![\w'])({_CAP}(?:\s+{_CAP})?)(?!\w)")
_SAYING = "|".join(sorted(SAYING, key=len, reverse=True))
_DOES = r"(?:was|had|could|would|did|looked|felt|saw|smiled|turned|took|came|made|gave|went|knew|stood|sat|is|has)"
_SURNAMED = ("Mr", "Mrs", "Colonel", "Captain", "Dr", "Doctor", "Professor")
_PRONOUN = re.compile(r"\b(he|him|his|himself|she|her|hers|herself)\b", re.IGNORECASE)


@dataclass(eq=False)
class Person:
    """Somebody of the text: the name shown, every name in use, ``M``, ``F`` or ``""`` where unknown.

    ``family`` is the surname where the text gives one; ``role`` is True for ``the old man`` and his like, ``vague`` for
    a name that several bear: ``Miss Bennet`` where two sisters have given names.
    """

    name: str
    names: set[str]
    gender: str = ""
    family: str = ""
    role: bool = False
    vague: bool = False


@dataclass(frozen=True)
class Mention:
    """A name at ``[start, end)`` of a text."""

    start: int
    end: int
    person: Person


@dataclass
class Cast:
    """All people, found in any text of the book by `find`."""

    people: list[Person]
    by_name: dict[str, Person] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_name = {name: person for person in self.people for name in person.names}
        self._compile()

    def _compile(self) -> None:
        ordered = sorted(self.by_name, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered)) or '(?!)'})(?!\w)")

    def find(self, text: str) -> list[Mention]:
        """Return the mentions in order."""
        return [Mention(m.start(), m.end(), self.by_name[m.group()]) for m in self._pattern.finditer(text)]

    def role(self, phrase: str, gender: str) -> Person:
        """Return the nameless person that the text calls ``phrase``, made where it is new."""
        if phrase not in self.by_name:
            person = Person(phrase, {phrase, phrase[0].upper() + phrase[1:]}, gender, role=True)
            self.people.append(person)
            self.by_name |= dict.fromkeys(person.names, person)
            self._compile()
        return self.by_name[phrase]


def _titled(text: str) -> Counter[tuple[str, str]]:
    known = Counter(re.findall(_CAP, text))
    found: Counter[tuple[str, str]] = Counter()
    for match in _TITLED.finditer(text):
        name = match.group(2)
        head, _, tail = name.partition(" ")
        if head in NO_NAMES or (head.endswith("s") and known[head[:-1]] > 1):
            continue
        found[match.group(1), head if tail in NO_NAMES else name] += 1
    return found


def _acting(text: str) -> set[str]:
    """Return the capitalized words that act like people more than like places."""
    acts: Counter[str] = Counter()
    for pattern in (rf"\b(?:{_SAYING})\s+({_CAP})", rf"\b({_CAP})\s+(?:{_SAYING})\b", rf"\b({_CAP})\s+{_DOES}\b"):
        acts.update(m.group(1) for m in re.finditer(pattern, text))
    place = rf"\b(?:in|at|near|into|towards?|through|quitted|left|visit|the)\s+({_CAP})"
    places = Counter(m.group(1) for m in re.finditer(place, text))
    return {name for name, count in acts.items() if count >= 2 and count > places[name]}


def _bare(text: str, known: set[str]) -> Counter[str]:
    """Return the capitalized names without a title that stand for people, with counts."""
    inside = Counter(m.group(1) for m in re.finditer(rf"(?<=[a-z,;\u2014-] )({_CAP}(?:\s+{_CAP})?)(?!\w)", text))
    lower = Counter(re.findall(r"\b[a-z]+\b", text))
    people = known | {name for name in _acting(text) if inside[name] and lower[name.lower()] <= inside[name]}
    people = {name for name in people if not (name.endswith("s") and name[:-1] in people)}
    found: Counter[str] = Counter()
    for name, count in inside.items():
        head, _, tail = name.partition(" ")
        if {head, tail} & NO_NAMES or head in TITLES or head not in people or lower[head.lower()] > count:
            continue
        if (tail in people) if tail else (count >= 2):
            found[name] = count
    return found


def tell_genders(people: Iterable[Person], cast: Cast, narration: Iterable[str]) -> None:
    """Set the gender of those without one by the pronouns that follow their names."""
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for paragraph in narration:
        for sentence in sentences(paragraph):
            seen = cast.find(sentence)
            if not seen or any(m.person is not seen[0].person for m in seen):
                continue
            pronoun = _PRONOUN.search(sentence, seen[0].end)
            if pronoun:
                votes[id(seen[0].person)]["M" if pronoun.group(1).lower().startswith("hi") or
                                          pronoun.group(1).lower() == "he" else "F"] += 1  # fmt: skip
    for person in people:
        men, women = votes[id(person)]["M"], votes[id(person)]["F"]
        if not person.gender and max(men, women) >= 2 and max(men, women) >= 2 * min(men, women):
            person.gender = "M" if men > women else "F"


def _merge(titled: Counter[tuple[str, str]], bare: Counter[str]) -> list[Person]:
    """Make people of names: ``Mr. Bingley``, ``Bingley`` and ``Charles Bingley`` are one."""
    people: dict[tuple[str, str], Person] = {}
    spelt = lambda title, name: {f"{title}. {name}", f"{title} {name}"}  # noqa: E731
    surnames = {name.split()[-1] for title, name in titled if title in _SURNAMED or " " in name}
    givens: dict[str, str] = {}
    for name in list(bare) + [name for title, name in titled if title in ("Miss", "Mr", "Mrs") and " " in name]:
        head, _, tail = name.partition(" ")
        if tail and tail.split()[-1] in surnames:
            givens[head] = tail.split()[-1]
    for (title, name), _ in titled.most_common():
        gender = "M" if title in MALE_TITLES else "F" if title in FEMALE_TITLES else ""
        head, _, tail = name.partition(" ")
        if (title in ("Miss", "Mr") and (tail or (head in bare and head not in surnames))) and head not in ("de", "De"):
            key, family = ("", head), tail.split()[-1] if tail else givens.get(head, "")
        elif title in ("Sir", "Lady") and (tail or any(n.startswith(head + " ") and t == title for t, n in titled)):
            key, family = (title, head), tail.split()[-1] if tail else ""
        else:
            key, family = (title, name), name.split()[-1]
        shown = head if key[0] == "" else f"{title}. {name}" if title in ("Mr", "Mrs", "Dr") else f"{title} {name}"
        person = people.setdefault(key, Person(shown, set(), gender))
        person.names |= spelt(title, name)
        person.gender, person.family = person.gender or gender, person.family or family
    for name in bare:
        head, _, tail = name.partition(" ")
        if not tail and head in surnames and head not in givens:
            owner = next((people[t, head] for t in ("Mr", "Colonel", "Captain", "Dr", "Mrs", "Miss", "Lady")
                          if (t, head) in people), None)  # fmt: skip
            if owner:
                owner.names.add(name)
                continue
        person = people.setdefault(("", head), Person(head, set()))
        person.names |= {name, head} if not tail or head in bare else {name}
        person.family = person.family or tail or givens.get(head, "")
    _same_given(people)
    return list(people.values())


def _same_given(people: dict[tuple[str, str], Person]) -> None:
    for short, long in NICKNAMES.items():
        if ("", short) in people and ("", long) in people:
            one, other = people.pop(("", short)), people[("", long)]
            other.names |= one.names
            other.gender, other.family = other.gender or one.gender, other.family or one.family


def _join_families(people: list[Person], cast: Cast, narration: Sequence[str]) -> list[Person]:
    """Join ``Caroline Bingley`` to ``Miss Bingley`` where no other given name of that family and gender is known.

    Whoever goes by the given name more often is somebody else; two that one sentence names more than
    once are two, as a father and his son.
    """
    gone: set[int] = set()
    counts = Counter(id(m.person) for paragraph in narration for m in cast.find(paragraph))
    together: Counter[frozenset[int]] = Counter()
    for sentence in (s for paragraph in narration for s in sentences(paragraph)):
        seen = {id(m.person) for m in cast.find(sentence)}
        together.update(frozenset((a, b)) for a in seen for b in seen if a < b)
    for titled in people:
        shown = titled.name.split()
        if shown[0] not in ("Mr.", "Miss") or len(shown) != 2:
            continue
        kin = [p for p in people if p.family == shown[1] and p.name.split()[0] not in TITLES
               and not p.name.startswith(("Mr.", "Mrs.", "Dr.")) and p.gender in ("", titled.gender)]  # fmt: skip
        if len(kin) != 1 or counts[id(kin[0])] > counts[id(titled)]:
            continue
        if together[frozenset((id(titled), id(kin[0])))] < 2:
            titled.names |= kin[0].names
            gone.add(id(kin[0]))
    return [p for p in people if id(p) not in gone]


def _mark_vague(people: list[Person]) -> None:
    for person in people:
        if person.name.startswith("Miss ") and len(person.names) <= 2:
            sisters = [p for p in people if p.family == person.family and p.gender == "F" and " " not in p.name]
            person.vague = len(sisters) >= 2


def read_cast(text: str, narration: Sequence[str], aliases: Sequence[str] = ()) -> Cast:
    """Find the people of a book.

    Args:
        text: the whole of it, quotations too.
        narration: the stretches outside quotations, which pronouns tell genders by.
        aliases: names that the persona goes by in the text; they are one person, named by the first.
    """
    titled = _titled(text)
    # Surnames from titles need no further evidence; a place may share a word with them seldom.
    bare = _bare(text, {name.split()[-1] for _, name in titled if name.split()[-1] not in NO_NAMES})
    people = _merge(titled, bare)
    cast = Cast(people)
    tell_genders(people, cast, narration)
    people = _join_families(people, cast, narration)
    if aliases:
        own = Person(aliases[0], set(aliases))
        for person in people:
            if person.names & own.names:
                own.gender, own.family = own.gender or person.gender, own.family or person.family
            # Who is known by one of the names alone is the persona; of others only the name is taken.
            if person.name in own.names:
                own.names |= person.names
            person.names -= own.names
        people = [own] + [p for p in people if p.names]
        cast = Cast(people)
        tell_genders(people, cast, narration)
    _mark_vague(people)
    return Cast(people)
