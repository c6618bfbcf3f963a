"""From one long text to materials: what is told of the persona, and what the persona says.

Knowledge is narration about the persona; speech is what it says, in segments of at most five turns, and, where the
persona narrates, its first-person narration. No paragraph serves as both. What the text says word for word is kept;
only line ends, quotation marks around a turn and the tags between its parts are taken out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from persllm.cards import Card
from persllm.errors import UserError, did_you_mean
from persllm.ingest.collect import Use, of_dialogue, of_novel
from persllm.ingest.counts import UNATTRIBUTED, Survey, count
from persllm.ingest.novel import Novel
from persllm.ingest.sources import Text, open_text
from persllm.records import KINDS, Material

__all__ = ["UNATTRIBUTED", "Reading", "Survey", "ingest", "read", "survey"]


@dataclass(frozen=True)
class Reading:
    """What one long text gives."""

    materials: list[Material]
    survey: Survey


def _silent(root: Path, text: Text, counts: Survey) -> UserError:
    """Return what to say where the persona never speaks."""
    heard = [row for row in counts.speakers if row.name not in (UNATTRIBUTED, *text.names)]
    who = ", ".join(f"{row.name} ({row.quotations})" for row in heard[:8]) or "nobody"
    near = next((hint for name in text.names if (hint := did_you_mean(name, [row.name for row in heard]))), "")
    return UserError(
        f"{root / 'persona.yaml'}: source.speaker: {', '.join(map(repr, text.names))} never speaks in "
        f"{text.path.name}{near}; who speaks most there: {who}; write the names that the text uses"
    )


def _uses(text: Text, card: Card) -> dict[str, Use]:
    narrator, form = bool(card.source and card.source.narrator), card.source.form if card.source else ""
    if isinstance(text.content, Novel):
        return {
            stage: of_novel([text.content.sections[i] for i in chapters], text.content.cast, narrator, form == "prose")
            for stage, chapters in text.stages.items()
        }
    return {stage: of_dialogue(text.content, turns, text.names) for stage, turns in text.stages.items()}


def _survey(text: Text, card: Card) -> Survey:
    return dataclasses.replace(count(text, card.source.form if card.source else ""), uses=_uses(text, card))


def survey(root: Path, card: Card) -> Survey:
    """Count what a pack's long text holds: chapters, quotations, speakers, and what of it becomes materials.

    Args:
        root: the pack's folder.
        card: its card, with a ``source``.

    Raises:
        UserError: the text cannot be read, or a stage begins nowhere in it.
    """
    return _survey(open_text(root, card), card)


def ingest(root: Path, card: Card) -> list[Material]:
    """Return the materials that `read` makes."""
    return read(root, card).materials


def read(root: Path, card: Card) -> Reading:
    """Make the materials of a pack from its one long text, and count what it holds.

    Args:
        root: the pack's folder; its name is the persona's.
        card: the pack's card, with a ``source`` and, for every stage but the first, where it ``begins``.

    Returns:
        Every stage's knowledge, then its speech, each numbered from 1 in the order of the text. ``source`` says where a
        material stands, for example ``Chapter 11, paragraph 3``. And the survey.

    Raises:
        UserError: a file that cannot be read, a stage that begins nowhere, a persona that never speaks, an empty stage.
    """
    text = open_text(root, card)
    counts = _survey(text, card)
    drafts = {stage: use.drafts for stage, use in counts.uses.items()}
    speaks = any(draft.kind == "speech" for made in drafts.values() for draft in made)
    if not speaks and counts.form != "prose" and not any(row.name in text.names for row in counts.speakers):
        raise _silent(root, text, counts)
    empty = [stage for stage, made in drafts.items() if not made]
    if empty:
        raise UserError(
            "\n".join(
                f"{root / 'persona.yaml'}: stages.{stage}: nothing in {text.path.name} between its beginning and the "
                f"next one's is about or by {text.names[0]}; let it begin elsewhere, or name the persona otherwise in "
                "source.speaker"
                for stage in empty
            )
        )
    found = []
    for stage, made in drafts.items():
        for kind in KINDS:
            for order, draft in enumerate((d for d in made if d.kind == kind), 1):
                name = f"{root.name}-{stage}-{kind}-{order:03d}"
                found.append(
                    Material(
                        id=name, persona=root.name, stage=stage, kind=kind, order=order, text=draft.text,
                        source=draft.source,
                    )
                )  # fmt: skip
    return Reading(found, counts)
