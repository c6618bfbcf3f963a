"""What a text holds before anything is made of it: counts by chapter and by speaker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from persllm.cards import Card
from persllm.ingest.dialogue import Turns
from persllm.ingest.novel import Novel
from persllm.ingest.sources import Text, open_text
from persllm.ingest.text import words

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
    whose closing mark is missing.
    """

    form: str
    chapters: list[ChapterCount]
    speakers: list[SpeakerCount]
    unclosed: int

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
        return "\n".join(lines)


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
    return Survey(form, [whole], _speakers(quotations, said), 0)


def count(text: Text, form: str) -> Survey:
    """Count what a text of a form of `persllm.cards.FORMS` holds."""
    return _novel(text.content, form) if isinstance(text.content, Novel) else _dialogue(text.content, form)


def survey(root: Path, card: Card) -> Survey:
    """Count what a pack's long text holds: chapters, quotations, speakers.

    Args:
        root: the pack's folder.
        card: its card, with a ``source``.

    Raises:
        UserError: the text cannot be read, or a stage begins nowhere in it.
    """
    return count(open_text(root, card), card.source.form if card.source else "")
