"""knowledge_support: how far the arm's own reply says what the recorded answer says, read without a judge.

Sentence embeddings of reply and recorded answer, with what both share with the question taken out (the part of each
that lies along the question's embedding), so that to repeat the question is worth nothing; less the same against the
persona's other recorded answers, so that to sound like the character is worth nothing either; over what the recorded
answer itself gets. 1 is the recorded answer word for word, 0 a reply that says nothing of it, and below 0 is possible.
Where the recorded answer itself gets less than 0.2 (it says little beyond its question, or what the others say), a
quotient would be noise: such items are left out, and told. In the six shipped personas all get 0.4 or more.

Shows: which knowledge items the reply answers with the recorded matter. Planted over the six shipped personas it orders
recorded answer (1) > its first half (0.8) > the other stage's answer to the same question (0.3) > another character's
to the nearest question, an assistant's evasion, the question said again, a refusal (each 0 within 0.03 on average, and
not told apart). Cannot show: contradiction. A reply that goes along with a false premise in the words of the right one
gets about 0.4, and the opposite opinion in the words of the right one about 0.7: premises have metrics of their own
(induction), and opinions are left out here.

Beside the judge: it needs nobody, costs a second, and stands where there is no certificate. A judge that holds one also
counts contradiction; where the two order arms differently, look at the replies.

Source: ours; the embedding as in Reimers and Gurevych (arXiv 1908.10084).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persllm.metrics import Metric
from persllm.probes import Evidence, Scored, Value
from persllm.records import Item

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float64]

FAMILY = "Accuracy"
VERSIONS = {"probe": 1, "score": 2}
NEEDS = ("replies",)
METRICS = {"knowledge_support": Metric("Knowledge, supported without a judge", "share of the recorded answer")}
FEWEST = 4
"""Other recorded answers that an item is set against, at least."""
LEAST = 0.2
"""What a recorded answer must itself get for a reply to be measured by it."""


def _beyond(vector: Vectors, question: Vectors) -> Vectors:
    """Return vectors without what lies along the question (``[width]`` or ``[n, width]``; a unit question)."""
    return vector - (vector @ question)[..., None] * question


def _share(said: Vectors, gold: Vectors, others: Vectors, question: Vectors) -> float:
    heard, beside, left = (_beyond(vector, question) for vector in (gold, others, said))
    return float(left @ heard - (beside @ left).mean())


def tells(gold: Vectors, others: Vectors, question: Vectors) -> bool:
    """Return whether a recorded answer says enough of its own to measure a reply by it; arguments as of supports."""
    return _share(gold, gold, others, question) >= LEAST


def supports(reply: Vectors, gold: Vectors, others: Vectors, question: Vectors) -> float:
    """Return how far a reply supports the recorded answer: 1 for that answer itself, about 0 for anything else.

    Args:
        reply: unit vector of the reply, ``[width]``, as the next and the last.
        gold: of the recorded answer.
        others: of the persona's other recorded answers, ``[n, width]``.
        question: of the question.
    """
    return _share(reply, gold, others, question) / _share(gold, gold, others, question)


def score(evidence: Evidence) -> Scored:
    """Return the support of each held-out knowledge item; None where the reply is missing."""
    from persllm.embeddings import embed

    items = evidence.subject.items
    replies = {one.item_id: one.response for one in evidence.replies}
    if not items:
        return Scored([])
    golds = embed([item.response for item in items], evidence.embedder).astype(float)
    questions = embed([item.question for item in items], evidence.embedder).astype(float)
    values, alone, empty = [], 0, 0
    for item, gold, question in zip(items, golds, questions, strict=True):
        if item.pattern != "knowledge" or item.id not in replies:
            continue
        others = golds[[one.material_id != item.material_id for one in items]]
        if len(others) < FEWEST:
            alone += 1
            continue
        if not tells(gold, others, question):
            empty += 1
            continue
        said = replies[item.id]
        value = None
        if said is not None:
            value = supports(embed([said], evidence.embedder)[0].astype(float), gold, others, question)
        values.append(_value(item, value))
    name = evidence.subject.name
    notes = [f"{name}: {alone} knowledge items have too few others to be set against"] if alone else []
    if empty:
        notes.append(f"{name}: {empty} recorded answers of knowledge items say too little of their own to measure by")
    return Scored(values, notes=notes)


def _value(item: Item, value: float | None) -> Value:
    return Value(item_id=item.id, stage=item.stage, cluster=item.material_id, metric="knowledge_support", value=value)
