"""What a text holds before anything is made of it: counts by chapter and by speaker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from persllm.ingest.collect import Use
from persllm.ingest.dialogue import Turns
from persllm.ingest.novel import Novel
from persllm.ingest.passages import SHORTEST
from persllm.ingest.sources import Text
from persllm.ingest.text import words
from persllm.records import KINDS

UNATTRIBUTED = "(unattributed)"
"""The row of the quotations whose speaker no rule tells."""
WHOLE = "(the whole text)"
"""The one row of a text without chapters."""


@dataclass(frozen=True)
class ChapterCount:
    """One chapter: its paragraphs, its words, its quotations and how many of them have no speaker."""

    title: str
    paragraphs: int
    words: int
    quotations: int
    unattributed: int


@dataclass(frozen=True)
class SpeakerCount:
    """One speaker: the quotations (turns, in an interview or a chat) and the words in them."""

    name: str
    quotations: int
    words: int


@dataclass(frozen=True)
class Survey:
    """The counts of one text. The quotations of ``chapters`` and of ``speakers`` have the same sum.

    ``speakers`` are in falling order with `UNATTRIBUTED` last, where there is any. ``unclosed`` counts the quotations
    whose closing mark is missing; ``once`` are what `persllm.ingest.dialogue.Turns` has of that name; ``uses`` says of
    each stage how much of it became materials.
    """

    form: str
    chapters: list[ChapterCount]
    speakers: list[SpeakerCount]
    unclosed: int
    once: list[str] = field(default_factory=list)
    uses: dict[str, Use] = field(default_factory=dict)

    def table(self, most: int = 15) -> str:
        """Return both counts as text, at most ``most`` speakers and one line for the rest."""
        lines = [f"{'chapter':32} {'paragraphs':>10} {'words':>8} {'quotations':>10} {'unattributed':>12}"]
        for row in self.chapters:
            counts = f"{row.paragraphs:10} {row.words:8} {row.quotations:10} {row.unattributed:12}"
            lines.append(f"{row.title[:32]:32} {counts}")
        lines += ["", f"{'speaker':32} {'quotations':>10} {'words':>8}"]
        named = [row for row in self.speakers if row.name != UNATTRIBUTED]
        rows, rest = named[:most], named[most:]
        if rest:
            number = sum(row.quotations for row in rest), sum(row.words for row in rest)
            rows.append(SpeakerCount(f"({len(rest)} more)", *number))
        rows += [row for row in self.speakers if row.name == UNATTRIBUTED]
        lines += [f"{row.name[:32]:32} {row.quotations:10} {row.words:8}" for row in rows]
        if self.unclosed:
            lines.append(f"{self.unclosed} quotations have no closing mark")
        if self.once:
            told = "; ".join(self.once[:10]) + (f"; and {len(self.once) - 10} more" if len(self.once) > 10 else "")
            lines.append(f"taken for words, not for speakers' names, as they stand once only: {told}")
        return "\n".join([*lines, "", *self.used()])

    def used(self) -> list[str]:
        """Return a sentence for each stage: how many words of its text are in materials, and how many are left out."""
        told = []
        for stage, use in self.uses.items():
            kinds = {kind: use.used(kind) for kind in KINDS}
            parts = ", ".join(f"{count} became {kind}" for kind, count in kinds.items())
            short = f"{sum(passage.words for passage in use.short)} of these in passages under {SHORTEST} words"
            left = use.words - sum(kinds.values())
            told.append(f"{stage}: of {use.words} words {parts}; {left} are left out, {short}")
        return told


def _speakers(quotations: Counter[str], said: Counter[str]) -> list[SpeakerCount]:
    order = sorted(quotations, key=lambda name: (name == UNATTRIBUTED, -quotations[name], name))
    return [SpeakerCount(name, quotations[name], said[name]) for name in order]


def _novel(novel: Novel, form: str) -> Survey:
    """Count a novel (or a biography, an essay); quotations within a tale count for those who say them."""
    chapters: list[ChapterCount] = []
    quotations: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for section in novel.sections:
        spoken = section.spoken
        paragraphs = section.chapter.paragraphs
        total = sum(words(paragraph.text) for paragraph in paragraphs)
        unknown = sum(turn.speaker is None for turn in spoken)
        chapters.append(ChapterCount(section.chapter.title, len(paragraphs), total, len(spoken), unknown))
        for turn in spoken:
            quotations[turn.speaker or UNATTRIBUTED] += 1
            said[turn.speaker or UNATTRIBUTED] += words(turn.text)
            if turn.told is not None:
                # The words told are not the teller's own.
                said[turn.told or UNATTRIBUTED] -= words(turn.text)
    unclosed = sum(not turn.closed for section in novel.sections for turn in section.turns)
    return Survey(form, chapters, _speakers(quotations, said), unclosed)


def _dialogue(turns: Turns, form: str) -> Survey:
    """Count an interview or a chat: its turns."""
    quotations = Counter(line.speaker or UNATTRIBUTED for line in turns.lines)
    said: Counter[str] = Counter()
    for line in turns.lines:
        said[line.speaker or UNATTRIBUTED] += words(line.text)
    total = sum(words(line.text) for line in turns.lines + turns.intro)
    whole = ChapterCount(WHOLE, len(turns.lines) + len(turns.intro), total, len(turns.lines), quotations[UNATTRIBUTED])
    return Survey(form, [whole], _speakers(quotations, said), 0, turns.once)


def count(text: Text, form: str) -> Survey:
    """Count what a text of a form of `persllm.cards.FORMS` holds."""
    return _novel(text.content, form) if isinstance(text.content, Novel) else _dialogue(text.content, form)
