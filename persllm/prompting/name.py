"""Recipe name: who, one line of identity, when, and what is asked."""

from persllm.packs import Card
from persllm.prompting import Message, Source, stage_line


def system(card: Card, stage: str, temporal_label: str = "text") -> str:
    """Return the system message."""
    when = stage_line(card, stage, temporal_label)
    return (
        f"You are {card.name}, {card.identity}.{when} "
        "Stay in character and answer as yourself, in two to four spoken sentences."
    )


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the system message and the question."""
    label = source.config.get("temporal_label", "text")
    return [
        {"role": "system", "content": system(source.card, stage, label)},
        {"role": "user", "content": question},
    ]
