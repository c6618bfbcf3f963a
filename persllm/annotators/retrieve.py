"""Which paragraphs an annotator is shown: the item's own first, then the nearest within two budgets of words."""

from __future__ import annotations

from typing import Any

import numpy as np

from persllm.embeddings import embed
from persllm.records import KINDS, Material


def retrieve(materials: list[Material], own: Material | None, query: str, config: dict[str, Any]) -> list[Material]:
    """Return the paragraphs of one stage that go with a question, knowledge before speech, best first.

    As in arXiv 2407.12393 (retrieval for responses): the paragraph that the question came from stands first in its kind
    whatever its length, and one that contains another or lies in it is passed over. Here a paragraph too long for what
    is left of the budget is passed over, where the paper's code goes beyond the budget by one.

    Args:
        materials: the stage's paragraphs.
        own: the question's own paragraph, or None where another stage's question is answered.
        query: what the others are nearest to.
        config: ``knowledge_words``, ``speech_words`` (budgets) and ``embedder``.
    """
    chosen: list[Material] = []
    for kind in KINDS:
        pool = [m for m in materials if m.kind == kind and (own is None or m.id != own.id)]
        taken = [own] if own is not None and own.kind == kind else []
        used = sum(len(m.text.split()) for m in taken)
        if pool:
            close = embed([m.text for m in pool], config["embedder"]) @ embed([query], config["embedder"])[0]
            for index in np.argsort(-close, kind="stable").tolist():
                words = len(pool[index].text.split())
                repeats = any(m.text in pool[index].text or pool[index].text in m.text for m in taken)
                if used + words <= config[f"{kind}_words"] and not repeats:
                    taken.append(pool[index])
                    used += words
        chosen += taken
    return chosen
