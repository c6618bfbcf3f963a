"""Which parts of a text are knowledge of the persona and which are its speech."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from persllm.ingest.cast import Cast
from persllm.ingest.dialogue import Turns
from persllm.ingest.novel import Section, frame, is_first_person
from persllm.ingest.passages import Passage, passages
from persllm.ingest.quotes import Turn, tale
from persllm.ingest.scenes import scenes
from persllm.ingest.segments import Line, segments
from persllm.ingest.text import Paragraph, words

WORTH = 12
"""Words that another's turn of an interview or a chat needs to be knowledge."""


@dataclass(frozen=True)
class Draft:
    """A material without its number."""

    kind: str
    text: str
    source: str


def _line(turn: Turn, paragraphs: Sequence[Paragraph]) -> Line:
    return Line(turn.speaker, turn.text, paragraphs[turn.first].number, paragraphs[turn.last].number)


def _conversations(section: Section, persona: str) -> list[Line]:
    """Return the segments of a chapter; a tale is no turn of a conversation but ends it.

    The persona's own tales are speech whole, so that what is said in them makes no segments.
    """
    paragraphs, found = section.chapter.paragraphs, []
    for scene in scenes(paragraphs, section.turns, section.narrators):
        lines: list[Line] = []
        for turn in scene.turns:
            if tale(turn, paragraphs):
                found += segments(lines, persona)
                lines = []
            else:
                lines.append(_line(turn, paragraphs))
        found += segments(lines, persona)
    for place, inner in section.tales.items():
        if section.turns[place].speaker != persona:
            found += segments([_line(turn, paragraphs) for turn in inner], persona)
    return found


def _narration(section: Section) -> list[Paragraph]:
    """Return the paragraphs in which nobody speaks, and that are whole sentences: no date, no lead of a quotation."""
    spoken = {row for turn in section.turns for row in range(turn.first, turn.last + 1)}
    plain = [p for row, p in enumerate(section.chapter.paragraphs) if row not in spoken]
    return [p for p in plain if not frame(p.text) and p.text[-1] in ".!?)\"\u201d\u2019'" and words(p.text) > 2]


def _about(paragraphs: Sequence[Paragraph], cast: Cast, persona: str) -> list[Paragraph]:
    """Return those that name the persona, and those with one that does just before and just after."""
    named = [any(m.person.name == persona for m in cast.find(p.text)) for p in paragraphs]
    return [
        p for i, p in enumerate(paragraphs) if named[i] or (0 < i < len(named) - 1 and named[i - 1] and named[i + 1])
    ]


def _drafts(kind: str, found: Sequence[Passage], title: str) -> list[Draft]:
    return [Draft(kind, passage.text, passage.source(title)) for passage in found]


def _told(section: Section, persona: str) -> list[Paragraph]:
    """Return the paragraphs of the persona's own tales and letters."""
    return [
        paragraph
        for turn in section.turns
        if turn.speaker == persona
        for paragraph in tale(turn, section.chapter.paragraphs)
    ]


def of_novel(sections: Sequence[Section], cast: Cast, narrator: bool, whole: bool) -> list[Draft]:
    """Return the materials of some chapters, in order.

    Speech is the segments of conversations, the persona's tales and letters and, where it narrates, the paragraphs in
    which at least four words of a hundred are ``I``, ``me`` or ``my``. The rest of its narration is knowledge: what it
    saw and did not live. Where it does not narrate, knowledge is the narration about it.

    Args:
        sections: the chapters of one stage.
        cast: the book's people, the persona first.
        narrator: whether the persona narrates.
        whole: whether all narration is about the persona, as in a biography.
    """
    persona = cast.people[0].name
    found: list[Draft] = []
    for section in sections:
        title = section.chapter.title
        plain = _narration(section)
        by = {p.number: who for p, who in zip(section.chapter.paragraphs, section.narrators, strict=True)}
        own = [p for p in plain if narrator and by[p.number] is cast.people[0]]
        lived = [p for p in own if is_first_person(p.text)]
        rest = [p for p in own if not is_first_person(p.text)]
        others = [p for p in plain if p not in own]
        about = others if whole else _about(others, cast, persona)
        found += _drafts("knowledge", passages(sorted(rest + about, key=lambda p: p.number)), title)
        speech = [Passage(line.first, line.last, line.text) for line in _conversations(section, persona)]
        speech += passages(lived) + passages(_told(section, persona))
        found += _drafts("speech", sorted(speech, key=lambda passage: (passage.first, passage.last)), title)
    return found


def of_dialogue(turns: Turns, stage: range, names: Sequence[str]) -> list[Draft]:
    """Return the materials of some turns of an interview or a chat.

    Speech is the segments in which the persona speaks. Knowledge is what stands before the first turn and what others
    say of it by name, outside of those segments, in at least `WORTH` words; there may be none.
    """
    own = {name.lower() for name in names}
    lines = [
        Line(names[0] if (line.speaker or "").lower() in own else line.speaker, line.text, line.first, line.last)
        for line in turns.lines[stage.start : stage.stop]
    ]
    speech = segments(lines, names[0])
    heard = {number for segment in speech for number in range(segment.first, segment.last + 1)}
    found: list[Draft] = []
    intro = [Paragraph(line.first, line.text, line.first) for line in turns.intro] if stage.start == 0 else []
    for passage in passages(intro):
        found.append(Draft("knowledge", passage.text, _lines(passage.first, passage.last)))
    for line in lines:
        named = any(re.search(rf"\b{re.escape(name)}\b", line.text.lower()) for name in own)
        if line.speaker != names[0] and line.first not in heard and named and words(line.text) >= WORTH:
            found.append(Draft("knowledge", line.text, _lines(line.first, line.last)))
    for segment in speech:
        found.append(Draft("speech", segment.text, _lines(segment.first, segment.last)))
    return found


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first}-{last}"
