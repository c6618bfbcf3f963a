"""A novel: chapters, quotations with their speakers, tales within, and who narrates what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from persllm.ingest.cast import Cast, Person, read_cast, tell_genders
from persllm.ingest.quotes import Turn, inner_style, mark, style_of, tale
from persllm.ingest.scenes import narration
from persllm.ingest.speakers import add_roles, attribute
from persllm.ingest.text import Chapter, read_book, words

NARRATOR = "the narrator"
"""The speaker's name where a first person without a known name says something."""

_FIRST_PERSON = re.compile(r"\b(?:I|me|my|myself|mine)\b")
_FRAME = re.compile(
    r"(?P<a>[A-Z].{0,40}?),? in continuation\.?|.{0,40}\bcontinued by (?P<b>[A-Z].{0,40}?)\.?"
    r"|(?P<c>[A-Z].{0,40}?)['\u2019]s (?:journal|diary|narrative|story|statement|letter|tale|memorandum)\b.{0,40}"
    r"|(?:the )?(?:journal|diary|narrative|story|statement|letter|tale) of (?P<d>[A-Z].{0,40}?)\.?",
    re.IGNORECASE,
)


@dataclass
class Section:
    """A chapter with its turns; ``tales`` are the turns within its tales, by the place of the tale in ``turns``."""

    chapter: Chapter
    turns: list[Turn]
    narrators: list[Person | None]
    tales: dict[int, list[Turn]] = field(default_factory=dict)

    @property
    def spoken(self) -> list[Turn]:
        """All quotations: the turns and those told of within tales."""
        return self.turns + [turn for inner in self.tales.values() for turn in inner]


@dataclass
class Novel:
    """A text read whole."""

    sections: list[Section]
    cast: Cast


def frame(text: str) -> str:
    """Return the narrator whom a line such as ``Walton, in continuation`` names, or ``""``."""
    match = _FRAME.fullmatch(text.strip(" ._*[]()")) if len(text) < 90 else None
    return next((name.strip(" .") for name in match.groups() if name), "") if match else ""


def _narrators(chapter: Chapter, turns: Sequence[Turn], cast: Cast, persona: Person | None) -> list[Person | None]:
    """Return who says ``I`` in each paragraph: the persona, somebody a frame line names, or a nameless narrator."""
    outside = narration(chapter.paragraphs, turns)
    current = persona
    if current is None and sum(len(_FIRST_PERSON.findall(text)) for text in outside) >= 5:
        current = cast.role(NARRATOR, "")
    found: list[Person | None] = []
    for text in outside:
        name = frame(text)
        if name:
            named = [m.person for m in cast.find(name.title() if name.isupper() else name)]
            current = named[0] if named else cast.role(name, "")
        found.append(current)
    return found


def _cast(chapters: Sequence[Chapter], turns: Sequence[list[Turn]], style: str, names: Sequence[str]) -> Cast:
    outside: list[str] = []
    for chapter, own in zip(chapters, turns, strict=True):
        outside += narration(chapter.paragraphs, own)
        for turn in own:
            inside = tale(turn, chapter.paragraphs)
            outside += narration(inside, mark(inside, inner_style(style)))
    cast = read_cast(" ".join(p.text for chapter in chapters for p in chapter.paragraphs), outside, names)
    add_roles((turn for own in turns for turn in own), cast)
    tell_genders([person for person in cast.people if person.role], cast, outside)
    return cast


def _tell(section: Section, style: str, cast: Cast) -> None:
    """Attribute the quotations within a section's tales; in a tale its teller says ``I``."""
    people = {person.name: person for person in cast.people}
    for place, turn in enumerate(section.turns):
        inside = tale(turn, section.chapter.paragraphs)
        inner = mark(inside, inner_style(style)) if inside else []
        if not inner:
            continue
        teller = people.get(turn.speaker or "")
        attribute(inside, inner, cast, [teller] * len(inside))
        rows = [row for row, _, _ in turn.spans]
        for quotation in inner:
            quotation.told = turn.speaker or ""
            quotation.first, quotation.last = rows[quotation.first], rows[quotation.last]
        section.tales[place] = inner


def read_novel(path: Path, names: Sequence[str] = (), narrates: range | None = None) -> Novel:
    """Read a novel and say who speaks: `tell_novel` of a plain text, with or without Project Gutenberg's licence.

    Raises:
        UserError: the file cannot be read.
    """
    return tell_novel(read_book(path), names, narrates)


def tell_novel(chapters: list[Chapter], names: Sequence[str] = (), narrates: range | None = None) -> Novel:
    """Say who speaks in a novel.

    Args:
        chapters: see `read_book`.
        names: what the text calls the persona; its speaker's name is the first.
        narrates: indices of the chapters in which the persona says ``I`` outside quotations, or None.
    """
    style = style_of(" ".join(p.text for chapter in chapters for p in chapter.paragraphs))
    turns = [mark(chapter.paragraphs, style) for chapter in chapters]
    cast = _cast(chapters, turns, style, names)
    novel = Novel([], cast)
    lead: list[str] = []
    teller: str | None = None
    for index, (chapter, own) in enumerate(zip(chapters, turns, strict=True)):
        persona = cast.people[0] if narrates is not None and index in narrates else None
        section = Section(chapter, own, _narrators(chapter, own, cast, persona))
        attribute(chapter.paragraphs, own, cast, section.narrators, lead)
        # A tale that fills several chapters is introduced in the first only.
        if own and own[0].first == 0 and teller is not None and tale(own[0], chapter.paragraphs):
            own[0].speaker = teller
        _tell(section, style, cast)
        ends = bool(own) and own[-1].last == len(chapter.paragraphs) - 1 and not own[-1].after
        teller = own[-1].speaker if ends and tale(own[-1], chapter.paragraphs) else None
        lead = narration(chapter.paragraphs, own)[-6:]
        novel.sections.append(section)
    return novel


def is_first_person(text: str) -> bool:
    """Whether at least four of a hundred words are the first person's."""
    return len(_FIRST_PERSON.findall(text)) >= 0.04 * words(text)
