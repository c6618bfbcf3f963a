"""One long text as chapters of numbered paragraphs: licence cut off, hard-wrapped lines joined."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

from persllm.errors import UserError, did_you_mean

_ORDINALS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty first second third fourth fifth sixth seventh eighth ninth tenth last"
).replace(" ", "|")
_ROMAN = r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_NUMBER = rf"(?:(?i:the)\s+)?(?:\d+|{_ROMAN}|{_ROMAN.lower()}|(?i:(?:{_ORDINALS})(?:[\s-](?:{_ORDINALS}))?))"
_HEADING = re.compile(
    rf"(?:(?i:chapter|letter|stave|part|book|volume|vol\.|act|scene|section|canto)\s+{_NUMBER}"
    rf"(?:\s*[.:\u2014\u2013-]+\s*\S.{{0,60}}|\s+[A-Z][^.!?]{{0,60}}|\.?)"
    r"|(?i:preface|prologue|epilogue|introduction|foreword|conclusion|afterword|contents)\.?"
    rf"|{_ROMAN}\.?)"
)
_OUTER = re.compile(r"(?:volume|vol\.|book|part)\b", re.IGNORECASE)
_START = re.compile(r"^\*\*\*\s*START OF .*$|^\*END\*?\s*THE SMALL PRINT.*$", re.MULTILINE | re.IGNORECASE)
_END = re.compile(r"^\*\*\*\s*END OF .*$|^End of (?:the )?Project Gutenberg.*$", re.MULTILINE | re.IGNORECASE)
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Rev|Col|Capt|Esq|Prof|Messrs|No|vol|[A-Z])\.$")
_BROKEN = re.compile(r"[^\s\u2014-](?:-|--|\u2014)$")
_CLOSED = re.compile(r"[.!?][\"'\u201d\u2019)\]]*$")
_PROSE = 40
"""Words of a paragraph that is no part of a table of contents, if most are in small letters and it ends a sentence."""
_STOP = re.compile(r"[.!?][\"'\u201d\u2019)\]]*\s+(?=[\"'\u201c\u2018(\[]*[A-Z\u00c0-\u00de])")


@dataclass(frozen=True)
class Paragraph:
    """One paragraph: its number in the chapter from 1, its text on one line, and the file's line it begins at."""

    number: int
    text: str
    line: int


@dataclass
class Chapter:
    """A heading (``Chapter 11``; ``Volume II, Chapter I`` under an outer one; ``""`` before the first)."""

    title: str
    paragraphs: list[Paragraph] = field(default_factory=list)
    passed: int = 0
    """Words that are no paragraph: a line right under the heading, captions, a table of contents before it."""


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises:
        UserError: no such file, not UTF-8, or nothing in it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; source.file of persona.yaml names a text beside it or by full path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    if not text.strip():
        raise UserError(f"{path}: the file is empty; expected the text to read materials from")
    return text


def _blocks(text: str) -> list[tuple[int, list[str]]]:
    """Return ``(line, lines)`` for each paragraph; without blank lines between, every line is a paragraph."""
    start, end = _START.search(text), _END.search(text)
    first = text.count("\n", 0, start.end()) + 1 if start else 0
    lines = (text[: end.start()] if end else text).split("\n")
    filled = [line for line in lines if line.strip()]
    apart = sum(1 for a, b in itertools.pairwise(lines) if a.strip() and not b.strip())
    single = apart < len(filled) / 50 and sum(len(line) > 100 for line in filled) > len(filled) / 10
    blocks: list[tuple[int, list[str]]] = []
    fresh = True
    for number, line in enumerate(lines[first:], first + 1):
        if not line.strip():
            fresh = True
            continue
        if fresh or single:
            blocks.append((number, []))
        blocks[-1][1].append(line.strip())
        fresh = False
    return blocks


def _join(lines: list[str]) -> str:
    """Return lines as one; where a line ends in a hyphen or a dash without a space, none comes between."""
    text = lines[0]
    for before, line in itertools.pairwise(lines):
        text += line if _BROKEN.search(before) and re.match(r"\w", line) else f" {line}"
    return re.sub(r"\s+", " ", text).strip()


def is_heading(line: str) -> bool:
    """Whether a line that stands alone is a chapter's heading."""
    return len(line) <= 90 and _HEADING.fullmatch(line.strip(" _*=")) is not None


def read_book(path: Path) -> list[Chapter]:
    """Return the chapters that have paragraphs.

    A table of contents, pictures' captions (``[Illustration``) and a line right under a heading are left out; their
    words are counted. Text before the first heading is a chapter with the title ``""``.

    Raises:
        UserError: see `read_text`; or there are headings only.
    """
    chapters = [Chapter("")]
    outer = ""
    for line, lines in _blocks(read_text(path)):
        title = lines[0].strip(" _*=")
        if all(is_heading(one) for one in lines) and len(lines) > 2:
            chapters[-1].passed += words(" ".join(lines))
            continue
        if is_heading(lines[0]) and len(lines) <= 2 and all(len(one) < 80 for one in lines):
            title = re.sub(r"\s+", " ", title).rstrip(".")
            if _OUTER.match(title):
                outer = title
            elif outer:
                title = f"{outer}, {title}"
            chapters.append(Chapter(title, passed=words(" ".join(lines[1:]))))
            continue
        text = _join(lines)
        if text.startswith("[Illustration"):
            chapters[-1].passed += words(text)
        elif re.search(r"\w", text):
            paragraphs = chapters[-1].paragraphs
            paragraphs.append(Paragraph(len(paragraphs) + 1, text, line))
    kept = _kept(chapters)
    if not kept:
        raise UserError(f"{path}: {len(chapters) - 1} headings and no paragraph; expected the text itself")
    return kept


def _kept(chapters: list[Chapter]) -> list[Chapter]:
    """Return the chapters with paragraphs but for tables of contents; what is left out counts for the next chapter."""
    kept: list[Chapter] = []
    passed = 0
    for place, chapter in enumerate(chapters):
        passed += chapter.passed
        follows = any(later.paragraphs for later in chapters[place + 1 :])
        if chapter.title.lower() == "contents" and follows and not any(_prose(p.text) for p in chapter.paragraphs):
            passed += sum(words(p.text) for p in chapter.paragraphs)
        elif chapter.paragraphs:
            chapter.passed, passed = passed, 0
            kept.append(chapter)
    if kept:
        kept[-1].passed += passed
    return kept


def _prose(text: str) -> bool:
    found = text.split()
    small = sum(word[0].islower() for word in found)
    return len(found) >= _PROSE and 2 * small > len(found) and _CLOSED.search(text) is not None


def _plain(title: str) -> str:
    return re.sub(r"[\W_]+", " ", title).strip().lower()


def find_heading(chapters: list[Chapter], begins: str, where: str) -> int:
    """Return the index of the chapter whose heading equals ``begins`` (case and punctuation aside).

    Args:
        chapters: from `read_book`.
        begins: for example ``Chapter 11``; the last part of ``Volume II, Chapter I`` serves where it is the only one.
        where: the file and key, for the error.

    Raises:
        UserError: no heading equals it, or several do.
    """
    wanted, titles = _plain(begins), [chapter.title for chapter in chapters]
    hits = [i for i, title in enumerate(titles) if _plain(title) == wanted]
    hits = hits or [i for i, title in enumerate(titles) if _plain(title.rpartition(", ")[2]) == wanted]
    if len(hits) == 1:
        return hits[0]
    named = [title for title in titles if title]
    if hits:
        which = ", ".join(repr(titles[i]) for i in hits[:4])
        raise UserError(f"{where}: {begins!r} is the heading of {len(hits)} chapters ({which}); write it in full")
    there = ", ".join(repr(title) for title in named[:3] + (["..."] if len(named) > 6 else []) + named[3:][-3:])
    raise UserError(
        f"{where}: no heading equals {begins!r}{did_you_mean(begins, named)} "
        f"(the text has {len(named)} headings{': ' + there if named else ''})"
    )


def sentences(text: str) -> list[str]:
    """Return the sentences of a paragraph in order; their texts joined by spaces give it back."""
    found, start = [], 0
    for stop in _STOP.finditer(text):
        if not _ABBREVIATION.search(text, max(start, stop.start() - 8), stop.start() + 1):
            found.append(text[start : stop.end()].strip())
            start = stop.end()
    if text[start:].strip():
        found.append(text[start:].strip())
    return found


def words(text: str) -> int:
    """Return the number of words."""
    return len(text.split())
