"""Quotations: which spans of which paragraphs are somebody's words, by the text's own quotation marks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from persllm.ingest.text import Paragraph

TALE = 4
"""A quotation continued over at least so many paragraphs is a tale: a narration of its own, with quotations in it."""

_SINGLE_OPEN = r"(?<![\w.,;:!?])'(?=[\w\u2014_(\"-])(?!(?:tis|twas|twere|twill|em|cause|bout|til|till|gainst)\b)"
_SINGLE_CLOSE = r"(?<=[.,;:!?\u2014_)-])'(?!\w)"
_STYLES = {
    "curly": ("\u201c", "\u201d"),
    "straight": ('"', '"'),
    "curly single": (r"\u2018", r"(?<=[.,;:!?\u2014_)\-\u201d\u2026])\u2019(?=[\s.,;:!?)\u2014-]|$)"),
    "single": (_SINGLE_OPEN, _SINGLE_CLOSE),
}
_HELD_UP = re.compile(r"(?:\w+\s+){0,2}\w*[^\W_s]\u2019(?!\w)")
"""A word or three in curly single marks without a stop, such as a name that is held up; none like the boys' (house)."""
_SPEECH_END = re.compile(r"[.,;:!?\u2014-]_?$")


@dataclass
class Turn:
    """A quotation: the words that one speaker says in one go, though tags and paragraph ends break them.

    ``first`` and ``last`` are indices of paragraphs in the chapter; ``spans`` are ``(paragraph, start, end)``
    with the marks left out. ``before`` is the narration between the quotation before and this one, ``gaps`` what
    stands between its spans and ``after`` what follows up to the next quotation, all within the paragraph.
    ``told`` is the teller of the tale that it stands in, or None. ``closed`` is False where the mark is missing.
    """

    first: int
    last: int
    spans: list[tuple[int, int, int]]
    parts: list[str]
    before: str = ""
    gaps: list[str] = field(default_factory=list)
    after: str = ""
    closed: bool = True
    told: str | None = None
    speaker: str | None = None

    @property
    def text(self) -> str:
        """The words alone, on one line."""
        return " ".join(self.parts)


def style_of(text: str) -> str:
    """Return the text's primary marks: ``curly``, ``straight``, ``curly single`` or ``single``."""
    counts = {
        "curly": text.count("\u201c"),
        "straight": text.count('"') // 2,
        "curly single": len(re.findall(r"(?<!\w)\u2018(?=\w)", text)),
        "single": len(re.findall(_SINGLE_CLOSE, text)),
    }
    return max(counts, key=lambda name: counts[name])


def inner_style(style: str) -> str:
    """Return the marks of quotations within quotations."""
    return {"curly": "curly single", "straight": "single", "curly single": "curly", "single": "straight"}[style]


def _spans(text: str, style: str) -> tuple[list[tuple[int, int]], bool]:
    """Return the spans between marks and whether the last one is still open at the paragraph's end."""
    opening, closing = (re.compile(mark) for mark in _STYLES[style])
    found: list[tuple[int, int]] = []
    at = 0
    while (start := opening.search(text, at)) is not None:
        end = closing.search(text, start.end())
        again = opening.search(text, start.end())
        crossed = end is None or (again is not None and again.start() < end.start())
        if crossed and style == "curly single" and (held_up := _HELD_UP.match(text, start.end())):
            found.append((start.end(), held_up.end() - 1))
            at = held_up.end()
            continue
        if style == "curly" and end and again and again.start() < end.start():
            # A closing mark is missing; the next opening one serves.
            found.append((start.end(), again.start()))
            at = again.start()
            continue
        if end is None:
            found.append((start.end(), len(text)))
            return found, True
        found.append((start.end(), end.start()))
        at = end.end()
    return found, False


def _spoken(text: str, start: int, end: int) -> bool:
    """Whether a span is speech: not a title or a word held up in marks."""
    inside = text[start:end].strip()
    if len(inside.split()) > 6 or _SPEECH_END.search(inside):
        return bool(inside)
    before = text[:start].rstrip("\u201c\"'\u2018 ")
    return not before or before[-1] in ".,:;!?\u2014-"


def _groups(spans: list[tuple[int, int]], text: str) -> Iterator[list[tuple[int, int]]]:
    """Cut a paragraph's spans where another may begin to speak."""
    group: list[tuple[int, int]] = []
    for span in spans:
        if group:
            gap = text[group[-1][1] : span[0]].strip("\u201c\u201d\"'\u2018\u2019 ")
            ended = not text[: group[-1][1]].rstrip("_ ").endswith((",", "-", "\u2014", ";"))
            # A new sentence that leads in with a colon or comma may name another speaker.
            if ended and (not gap or re.search(r"(?:^|(?<!\bM)(?<!Mr)(?<!Mrs)(?<!Dr)[.!?]\s+)[A-Z].*[,:]$", gap)):
                yield group
                group = []
        group.append(span)
    if group:
        yield group


def mark(paragraphs: list[Paragraph], style: str) -> list[Turn]:
    """Return the quotations of a chapter in order.

    A paragraph that ends inside a quotation and is followed by one that opens with a mark is continued by it.
    """
    turns: list[Turn] = []
    opened = False
    for index, paragraph in enumerate(paragraphs):
        text = paragraph.text
        was_open = opened
        spans, opened = _spans(text, style)
        goes_on = was_open and bool(spans) and spans[0][0] <= 2
        if was_open and not goes_on and turns:
            turns[-1].closed = False
        kept = [span for i, span in enumerate(spans) if (goes_on and i == 0) or _spoken(text, *span)]
        if spans and spans[-1] not in kept:
            opened = False
        at = 0
        for number, group in enumerate(_groups(kept, text)):
            parts = [text[a:b].strip() for a, b in group]
            lead = text[at : group[0][0]].rstrip("\u201c\"'\u2018 ")
            gaps = [text[a[1] + 1 : b[0] - 1].strip() for a, b in itertools.pairwise(group)]
            at = group[-1][1] + 1
            if number == 0 and goes_on:
                turn = turns[-1]
                turn.spans += [(index, a, b) for a, b in group]
                turn.parts += parts
                turn.gaps += gaps
                turn.last = index
            else:
                if number:
                    turns[-1].after = lead
                turn = Turn(index, index, [(index, a, b) for a, b in group], parts, lead, gaps)
                turns.append(turn)
        if kept:
            turns[-1].after = text[at:].strip()
    if opened and turns:
        turns[-1].closed = False
    return turns


def tale(turn: Turn, paragraphs: list[Paragraph]) -> list[Paragraph]:
    """Return the spans of a tale, as paragraphs without its own marks; nothing for a quotation that is no tale."""
    if len({p for p, _, _ in turn.spans}) < TALE:
        return []
    return [
        Paragraph(paragraphs[p].number, paragraphs[p].text[a:b].strip(), paragraphs[p].line) for p, a, b in turn.spans
    ]
