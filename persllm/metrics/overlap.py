"""BLEU, ROUGE-L and chrF of the generated response against gold, 0 to 100.

The numbers are those of sacrebleu (sentence BLEU with effective order, chrF2) and of rouge-score (ROUGE-L with Porter's
stemmer), computed so that a hundred thousand responses take minutes.

Shows: surface likeness, comparable with the paper's tables. Cannot show: sense, truth or character; a good answer in
other words scores low, and means over short sentences are noisy. A missing response is missing, not zero.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable

from persllm.bleu import bleu, count
from persllm.metrics import HELD_OUT, Metric, Values, View

FAMILY = HELD_OUT
OPTIONS = ("gold",)
METRICS = {
    "bleu": Metric("BLEU", "0 to 100"),
    "rouge_l": Metric("ROUGE\u2011L", "0 to 100"),
    "chrf": Metric("chrF", "0 to 100"),
}
CHRF_ORDER = 6
CHRF_BETA = 2
_WORD = re.compile("[a-z0-9]+")
_STEMMED = 3
"""Words of more letters than this are stemmed."""


@functools.cache
def _stemmer() -> Callable[[str], str]:
    # Imported late: a plan reads what a metric needs, and would wait for it.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer().stem


@functools.lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer()(word) if len(word) > _STEMMED else word


def _longest_common(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence.

    A row of the usual table is kept as the bits of one number, 0 where the length grows (Hyyro 2004).
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & every
    return len(one) - row.bit_count()


def rouge_l(text: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of stemmed words, 0 to 100 (Lin 2004)."""
    words, gold = ([_stem(word) for word in _WORD.findall(one.lower())] for one in (text, reference))
    common = _longest_common(gold, words)
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(gold)
    return 100 * (2 * precision * recall / (precision + recall))


def chrf(text: str, reference: str) -> float:
    """Return the F-measure of character n-grams without white space, recall weighed double, 0 to 100 (Popovic 2015)."""
    one, other = ("".join(text.split()) for text in (text, reference))
    lengths = min(CHRF_ORDER, len(one), len(other))
    precision = recall = 0.0
    for length in range(1, lengths + 1):
        grams, gold = (
            Counter([text[start : start + length] for start in range(len(text) - length + 1)]) for text in (one, other)
        )
        shared = grams.keys() & gold.keys()
        matched = sum(map(min, map(grams.__getitem__, shared), map(gold.__getitem__, shared)))
        precision += matched / (len(one) - length + 1)
        recall += matched / (len(other) - length + 1)
    if not precision + recall:
        return 0.0
    precision, recall = precision / lengths, recall / lengths
    factor = CHRF_BETA**2
    score = (1 + factor) * precision * recall
    score /= factor * precision + recall
    return 100 * score


def compute(view: View) -> Values:
    """Return the metrics of one item."""
    gold, response = view.item.response, view.generation.response
    if response is None:
        return {"bleu": None, "rouge_l": None, "chrf": None}
    return {
        "bleu": bleu(count(response), count(gold)),
        "rouge_l": rouge_l(response, gold),
        "chrf": chrf(response, gold),
    }
