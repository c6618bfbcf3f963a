"""Recipe retrieval: the profile, and the stage's own paragraphs nearest to the question.

Two budgets, as in the paper (arXiv 2407.12393): one for knowledge, one for speech, counted in words.
"""

import numpy as np

from persllm.embeddings import embed
from persllm.prompting import Message, Source, profile
from persllm.records import Material


def nearest(paragraphs: list[Material], question: str, words: int, embedder: str) -> list[Material]:
    """Return the paragraphs nearest to a question, best first, that fit the budget; one too long is passed over."""
    if not paragraphs:
        return []
    close = embed([m.text for m in paragraphs], embedder) @ embed([question], embedder)[0]
    chosen, used = [], 0
    for index in np.argsort(-close, kind="stable").tolist():
        length = len(paragraphs[index].text.split())
        if used + length > words:
            continue
        chosen.append(paragraphs[index])
        used += length
    return chosen


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the system message with retrieved paragraphs, and the question."""
    parts = [profile.system(source.card, stage)]
    for kind, heading in (
        ("knowledge", "What is true of you:"),
        ("speech", "Things you have said, in your own words:"),
    ):
        pool = [m for m in source.materials if m.stage == stage and m.kind == kind]
        found = nearest(pool, question, source.config[f"{kind}_words"], source.config["embedder"])
        if found:
            parts.append("\n".join([heading, *(f"- {m.text}" for m in found)]))
    return [{"role": "system", "content": "\n\n".join(parts)}, {"role": "user", "content": question}]
