"""BLEU, ROUGE-L and chrF of the generated response against gold, 0 to 100 (sacrebleu, rouge-score).

Shows: surface likeness, comparable with the paper's tables. Cannot show: sense, truth or character; a good answer in
other words scores low, and means over short sentences are noisy. A missing response is missing, not zero.
"""

import functools

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu, sentence_chrf

from persllm.metrics import Values, View

OPTIONS = ("gold",)


@functools.cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=True)


def compute(view: View) -> Values:
    """Return the metrics of one item."""
    gold, response = view.item.response, view.generation.response
    if response is None:
        return {"bleu": None, "rouge_l": None, "chrf": None}
    return {
        "bleu": sentence_bleu(response, [gold], use_effective_order=True).score,
        "rouge_l": 100 * _rouge().score(gold, response)["rougeL"].fmeasure,
        "chrf": sentence_chrf(response, [gold]).score,
    }
