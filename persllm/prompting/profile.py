"""Recipe profile: the character card and the stage's summary."""

from persllm.packs import Card
from persllm.prompting import Message, Source, name


def system(card: Card, stage: str, temporal_label: str = "text") -> str:
    """Return the system message."""
    return (
        f"{name.system(card, stage, temporal_label)}\n\n"
        f"Your life: {card.profile}\n\nAt this time of your life: {card.stages[stage].summary}\n\n"
        "You know nothing of what comes later in your life."
    )


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the system message and the question."""
    label = source.config.get("temporal_label", "text")
    return [
        {"role": "system", "content": system(source.card, stage, label)},
        {"role": "user", "content": question},
    ]
