"""Recipe retrieval: the profile, and the paragraphs within ``scope`` that are nearest to the question.

Two budgets, as in the paper (arXiv 2407.12393): one for knowledge, one for speech, counted in words.
"""

import numpy as np

from persllm.choices import Scope
from persllm.embeddings import embed
from persllm.prompting import Message, Source, profile
from persllm.records import Material

HEADINGS = {"knowledge": "What is true of you:", "speech": "Things you have said, in your own words:"}


def within(source: Source, stage: str) -> list[str]:
    """Return the stages of which a prompt at a stage may show paragraphs, in the order of life."""
    life = list(source.card.stages)
    own = life.index(stage)
    return {Scope.life: life, Scope.past: life[: own + 1], Scope.stage: [stage]}[Scope(source.config["scope"])]


def told(profile_text: str, chosen: dict[str, list[Material]], question: str) -> list[Message]:
    """Return the system message with chosen paragraphs of each kind under their heading, and the question."""
    parts = [profile_text]
    parts += ["\n".join([HEADINGS[kind], *(f"- {m.text}" for m in some)]) for kind, some in chosen.items() if some]
    return [{"role": "system", "content": "\n\n".join(parts)}, {"role": "user", "content": question}]


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
    config, stages = source.config, within(source, stage)
    chosen = {}
    for kind in HEADINGS:
        pool = [m for m in source.materials if m.stage in stages and m.kind == kind]
        chosen[kind] = nearest(pool, question, config[f"{kind}_words"], config["embedder"])
    return told(profile.system(source.card, stage), chosen, question)
