"""Interviews (``Name: words``) and chats (JSON Lines): texts that say themselves who speaks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persllm.errors import UserError, did_you_mean
from persllm.ingest.segments import Line
from persllm.ingest.text import read_text
from persllm.records import read_json_lines

_LABEL = re.compile(r"^[*_]{0,2}(?P<name>[^\W\d_][\w.'\u2019 -]{0,40}?)[*_]{0,2}\s*:[*_]{0,2}\s+(?P<words>\S.*)$")
_SPEAKER, _WORDS = ("speaker", "from", "role", "name"), ("text", "value", "content")


class Turns:
    """The lines of a dialogue in order, and where in the file each begins.

    ``lines[i]`` begins at line ``lines[i].first`` of the file; ``times[i]`` is its time, or ``""``;
    ``intro`` is what stands before the first labelled line of an interview; ``once`` are the beginnings of its lines
    that look like a speaker's name, but stand once only and are none of the persona's, as ``line 7: What I mean is``.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.times: list[str] = []
        self.intro: list[Line] = []
        self.once: list[str] = []

    def add(self, speaker: str, text: str, number: int, time: str = "") -> None:
        """Append what one speaker says."""
        self.lines.append(Line(speaker, text, number, number))
        self.times.append(time)


def read_interview(path: Path, names: Sequence[str]) -> Turns:
    """Read ``Name: words`` or ``Q: ...``/``A: ...``; a line without a name goes on with the turn before.

    A name begins with no small letter, and stands there twice at least or is one of the persona's.

    Args:
        path: the text.
        names: what it calls the persona.

    Raises:
        UserError: the file cannot be read, or no line names a speaker.
    """
    turns = Turns()
    lines = [line.strip() for line in read_text(path).split("\n")]
    labels = [_label(line) for line in lines]
    known = Counter(name.lower() for name, _ in filter(None, labels))
    own = {name.lower() for name in names}
    for number, (line, label) in enumerate(zip(lines, labels, strict=True), 1):
        name = label[0] if label else ""
        if label and known[name.lower()] == 1 and name.lower() not in own:
            turns.once.append(f"line {number}: {name}")
            label = None
        if label:
            turns.add(*label, number)
        elif line and turns.lines:
            last = turns.lines[-1]
            turns.lines[-1] = Line(last.speaker, f"{last.text} {line}", last.first, number)
        elif line:
            turns.intro.append(Line(None, line, number, number))
    if not turns.lines:
        raise UserError(
            f"{path}: no line begins with a speaker's name and a colon; expected `Name: words` or `Q: ...`, each name "
            "twice at least or in source.speaker"
        )
    return turns


def _label(line: str) -> tuple[str, str] | None:
    """Return the name that a line may begin with, and the words after it."""
    label = _LABEL.match(line)
    return (label["name"].strip(), label["words"]) if label and not label["name"][0].islower() else None


def _field(row: dict[str, Any], keys: tuple[str, ...], where: str) -> str:
    key = next((key for key in keys if key in row), None)
    if key is None:
        raise UserError(f"{where}: no field {keys[0]!r} (or {', '.join(map(repr, keys[1:]))})")
    if not isinstance(row[key], str) or not row[key].strip():
        raise UserError(f"{where}: field {key!r} should be a text, found {row[key]!r:.40}")
    return " ".join(row[key].split())


def read_chat(path: Path) -> Turns:
    """Read JSON Lines of ``speaker``/``text``/``time``, ``from``/``value`` or ``role``/``content``.

    Raises:
        UserError: a sentence for each line that is no such object, with file and line.
    """
    turns, wrong = Turns(), []
    for where, row in read_json_lines(path):
        try:
            if not isinstance(row, dict):
                raise UserError(f"{where}: expected a JSON object with speaker and text, found {type(row).__name__}")
            speaker, text = _field(row, _SPEAKER, where), _field(row, _WORDS, where)
        except UserError as error:
            wrong.append(str(error))
            continue
        turns.add(speaker, text, int(where.rpartition(":")[2]), str(row.get("time") or ""))
    if wrong:
        raise UserError("\n".join(wrong))
    if not turns.lines:
        raise UserError(f"{path}: the file is empty; expected one JSON object a line, with speaker and text")
    return turns


def find_begin(turns: Turns, begins: str, where: str) -> int:
    """Return the index of the turn at which a stage begins.

    Args:
        turns: the dialogue.
        begins: the beginning of what is said, of ``Name: words``, or of a time.
        where: the file and key, for the error.

    Raises:
        UserError: no turn begins so.
    """
    plain = begins.strip().lower()
    for index, (line, time) in enumerate(zip(turns.lines, turns.times, strict=True)):
        starts = (line.text, f"{line.speaker}: {line.text}", time)
        if any(start.lower().startswith(plain) for start in starts):
            return index
    # A time between two messages is a place as well.
    if re.match(r"\d{4}-\d\d", begins):
        for index, time in enumerate(turns.times):
            if _same_shape(time, begins) and time >= begins:
                return index
    known = [line.text[: len(begins) + 5] for line in turns.lines] + [time for time in turns.times if time]
    raise UserError(f"{where}: no line and no time begins with {begins!r}{did_you_mean(begins, known)}")


def _same_shape(time: str, other: str) -> bool:
    """Whether two times can be compared as texts: digits stand at the same places, as far as the shorter one goes."""
    shapes = [re.sub(r"\d", "0", one)[: min(len(time), len(other))] for one in (time, other)]
    return shapes[0] == shapes[1] and len(shapes[0]) >= len("2020-05")
