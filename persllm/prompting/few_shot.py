"""Recipe few_shot: the profile, and the stage's training items nearest to the question as earlier turns."""

import numpy as np

from persllm.embeddings import embed
from persllm.errors import UserError
from persllm.prompting import Message, Source, profile


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the system message, ``shots`` question-and-answer turns (nearest last) and the question."""
    own = [item for item in source.examples if item.stage == stage]
    if not own:
        raise UserError(
            f"few_shot: stage {stage!r} of {source.card.name} has no training item; lower split.test or split.dev"
        )
    embedder = source.config["embedder"]
    close = embed([item.question for item in own], embedder) @ embed([question], embedder)[0]
    nearest = np.argsort(-close, kind="stable")[: source.config["shots"]]
    messages: list[Message] = [{"role": "system", "content": profile.system(source.card, stage)}]
    for index in reversed(nearest.tolist()):
        messages.append({"role": "user", "content": own[index].question})
        messages.append({"role": "assistant", "content": own[index].response})
    return [*messages, {"role": "user", "content": question}]
