"""Which parts of a text are knowledge of the persona and which are its speech."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from persllm.ingest.cast import Cast
from persllm.ingest.dialogue import Turns
from persllm.ingest.novel import Section, frame, is_first_person
from persllm.ingest.passages import SHORTEST, Passage, passages
from persllm.ingest.quotes import Turn, tale
from persllm.ingest.scenes import scenes
from persllm.ingest.segments import Line, Segment, segments
from persllm.ingest.text import Paragraph, words

_ENDS = re.compile(r"[.!?)\"\u201d\u2019'\u2026]_*$")
"""How a paragraph of whole sentences ends; Project Gutenberg writes italics between underscores."""
_BREAKS_OFF = re.compile(r"[^:](?:\u2014|--)_*$")
"""How one ends that breaks off; but before a quotation that is its lead."""
WORTH = 12
"""Words that another's turn of an interview or a chat needs to be knowledge."""


@dataclass(frozen=True)
class Draft:
    """A material without its number; ``words`` counts the text's own, without the speakers' names."""

    kind: str
    text: str
    source: str
    words: int


@dataclass
class Use:
    """What is made of a stage's text, and how much of the text that leaves out."""

    words: int
    """Words of the text."""
    drafts: list[Draft] = field(default_factory=list)
    short: list[Passage] = field(default_factory=list)
    """Passages that are left out, being too short and alone."""

    def add(self, kind: str, piece: Passage | Segment, unit: str, title: str = "") -> None:
        """Add a piece, which stands in paragraphs (or lines) of a chapter; a passage that is too short is left out."""
        if isinstance(piece, Passage) and piece.words < SHORTEST:
            self.short.append(piece)
            return
        where = f"{unit} {piece.first}" if piece.first == piece.last else f"{unit}s {piece.first}-{piece.last}"
        self.drafts.append(Draft(kind, piece.text, f"{title}, {where}" if title else where, piece.words))

    def used(self, kind: str) -> int:
        """Return the words of the text in materials of a kind."""
        return sum(draft.words for draft in self.drafts if draft.kind == kind)


def _line(turn: Turn, paragraphs: Sequence[Paragraph]) -> Line:
    return Line(turn.speaker, turn.text, paragraphs[turn.first].number, paragraphs[turn.last].number)


def _conversations(section: Section, persona: str) -> list[Segment]:
    """Return the segments of a chapter; a tale is no turn of a conversation but ends it.

    The persona's own tales are speech whole, so that what is said in them makes no segments.
    """
    paragraphs = section.chapter.paragraphs
    found: list[Segment] = []
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
    return [
        p
        for row, p in enumerate(section.chapter.paragraphs)
        if row not in spoken and not frame(p.text) and words(p.text) > 2
        if _ENDS.search(p.text) or (row + 1 not in spoken and _BREAKS_OFF.search(p.text))
    ]


def _about(paragraphs: Sequence[Paragraph], cast: Cast, persona: str) -> list[Paragraph]:
    """Return those that name the persona, and those with one that does just before and just after."""
    named = [any(m.person.name == persona for m in cast.find(p.text)) for p in paragraphs]
    return [
        p for i, p in enumerate(paragraphs) if named[i] or (0 < i < len(named) - 1 and named[i - 1] and named[i + 1])
    ]


def _told(section: Section, persona: str) -> list[Paragraph]:
    """Return the paragraphs of the persona's own tales and letters."""
    return [
        paragraph
        for turn in section.turns
        if turn.speaker == persona
        for paragraph in tale(turn, section.chapter.paragraphs)
    ]


def of_novel(sections: Sequence[Section], cast: Cast, narrator: bool, whole: bool) -> Use:
    """Return the materials of some chapters, in order, and what is left out.

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
    use = Use(sum(s.chapter.passed + sum(words(p.text) for p in s.chapter.paragraphs) for s in sections))
    for section in sections:
        title = section.chapter.title
        plain = _narration(section)
        by = {p.number: who for p, who in zip(section.chapter.paragraphs, section.narrators, strict=True)}
        own = [p for p in plain if narrator and by[p.number] is cast.people[0]]
        lived = [p for p in own if is_first_person(p.text)]
        rest = [p for p in own if not is_first_person(p.text)]
        others = [p for p in plain if p not in own]
        about = others if whole else _about(others, cast, persona)
        for piece in passages(sorted(rest + about, key=lambda p: p.number)):
            use.add("knowledge", piece, "paragraph", title)
        speech: list[Passage | Segment] = [*_conversations(section, persona)]
        speech += [*passages(lived), *passages(_told(section, persona))]
        for piece in sorted(speech, key=lambda piece: (piece.first, piece.last)):
            use.add("speech", piece, "paragraph", title)
    return use


def of_dialogue(turns: Turns, stage: range, names: Sequence[str]) -> Use:
    """Return the materials of some turns of an interview or a chat, and what is left out.

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
    intro = [Paragraph(line.first, line.text, line.first) for line in turns.intro] if stage.start == 0 else []
    use = Use(sum(words(line.text) for line in [*intro, *lines]))
    for passage in passages(intro):
        use.add("knowledge", passage, "line")
    for line in lines:
        named = any(re.search(rf"\b{re.escape(name)}\b", line.text.lower()) for name in own)
        if line.speaker != names[0] and line.first not in heard and named and words(line.text) >= WORTH:
            use.add("knowledge", Segment(line.text, line.first, line.last, words(line.text)), "line")
    for segment in speech:
        use.add("speech", segment, "line")
    return use
