"""How much more a reply is like one persona's own speech than like the others': a reading of text without a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from persllm.embeddings import Vectors, embed
from persllm.records import Material


def direction(paragraphs: Mapping[str, Sequence[Material]], name: str, stage: str, embedder: str) -> Vectors | None:
    """Return the middle of a persona's speech at a stage less the mean of the others' middles, ``[width]``.

    Multiplied with a text's vector it gives how much more the text is like the one than, on average, like the others.

    Args:
        paragraphs: by pack name, this persona's among them.
        name: the persona's pack.
        stage: of its life; the others' speech counts at all of theirs.
        embedder: see persllm.embeddings.

    Returns:
        None where there is no speech on either side.
    """
    speech = {who: [one for one in told if one.kind == "speech"] for who, told in paragraphs.items()}
    own = [one.text for one in speech.get(name, []) if one.stage == stage]
    others = [[one.text for one in told] for who, told in speech.items() if who != name and told]
    if not own or not others:
        return None
    return _middle(own, embedder) - np.mean([_middle(texts, embedder) for texts in others], axis=0)


def _middle(texts: list[str], embedder: str) -> Vectors:
    mean = embed(texts, embedder).mean(0)
    return mean / np.linalg.norm(mean)


def likeness(reply: str | None, towards: Vectors | None, embedder: str) -> float | None:
    """Return how far a reply lies in a direction (a difference of cosines); None without either."""
    return float(embed([reply], embedder)[0] @ towards) if reply and towards is not None else None
