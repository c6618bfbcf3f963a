"""Opens a pack's one long text and finds where each stage begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from persllm import cards
from persllm.cards import Card
from persllm.errors import UserError
from persllm.ingest.dialogue import Turns, find_begin, read_chat, read_interview
from persllm.ingest.novel import Novel, tell_novel
from persllm.ingest.text import Chapter, find_heading, read_book
from persllm.problems import Problems


@dataclass(frozen=True)
class Text:
    """A text read by its form, and the range of chapters (or turns) of each stage."""

    path: Path
    names: list[str]
    content: Novel | Turns
    stages: dict[str, range]


def _whole(root: Path, card: Card) -> Card:
    """Return the card with all stages: one that a study leaves out still ends the stage before it."""
    path = root / "persona.yaml"
    read = cards.read(path, Problems()) if path.is_file() else None
    return read if read is not None and read.source == card.source else card


def _ranges(card: Card, starts: list[int], end: int, where: Path) -> dict[str, range]:
    found = {}
    for number, name in enumerate(card.stages):
        stop = starts[number + 1] if number + 1 < len(starts) else end
        if stop <= starts[number]:
            later = list(card.stages)[number + 1]
            raise UserError(
                f"{where}: stages.{later}.begins: {card.stages[later].begins!r} does not come after the beginning of "
                f"{name!r}; give the stages in the order of the text"
            )
        found[name] = range(starts[number], stop)
    return found


def _chapters(chapters: list[Chapter], card: Card, where: Path) -> dict[str, range]:
    starts = [
        find_heading(chapters, stage.begins, f"{where}: stages.{name}.begins") if stage.begins else 0
        for name, stage in card.stages.items()
    ]
    return _ranges(card, starts, len(chapters), where)


def open_text(root: Path, card: Card) -> Text:
    """Read the text that the card's ``source`` names.

    Returns:
        The text, with the range of every stage of ``card`` in chapters (novel, prose) or turns (interview, chat).

    Raises:
        UserError: no source, a file that cannot be read, or a stage that begins nowhere in it.
    """
    whole, source, where = _whole(root, card), card.source, root / "persona.yaml"
    if source is None:
        raise UserError(f"{where}: no 'source'; to make materials of a long text, name its file, form and speaker")
    path = root / source.file
    if source.form in ("novel", "prose"):
        chapters = read_book(path)
        ranges = _chapters(chapters, whole, where)
        told = range(min(r.start for r in ranges.values()), max(r.stop for r in ranges.values()))
        content: Novel | Turns = tell_novel(chapters, source.speaker, told if source.narrator else None)
    else:
        content = read_interview(path, source.speaker) if source.form == "interview" else read_chat(path)
        starts = [
            find_begin(content, stage.begins, f"{where}: stages.{name}.begins") if stage.begins else 0
            for name, stage in whole.stages.items()
        ]
        ranges = _ranges(whole, starts, len(content.lines), where)
    return Text(path, source.speaker, content, {name: ranges[name] for name in card.stages})
