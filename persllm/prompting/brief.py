"""Recipe brief: who and when, nothing else. For tuned arms, which have learned the rest."""

from persllm.prompting import Message, Source, stage_line


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the system message and the question."""
    when = stage_line(source.card, stage, source.config.get("temporal_label", "text"))
    return [
        {"role": "system", "content": f"You are {source.card.name}.{when}"},
        {"role": "user", "content": question},
    ]
