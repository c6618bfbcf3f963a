"""Sentence BLEU of many pairs of texts: each text is counted once, and a pair is a few set intersections.

The number is sacrebleu's ``sentence_bleu`` with ``use_effective_order`` (Papineni et al. 2002; exponential smoothing of
Chen and Cherry 2014; tokens as mteval 13a cuts them), 0 to 100.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

ORDER = 4
_Gram = tuple[str, int]


class Counted(NamedTuple):
    """A text's n-grams.

    ``grams`` are, for each length from 1 to ``ORDER``, pairs of an n-gram and which of its occurrences it is (from 1),
    so that what two texts share, clipped as BLEU clips it, is an intersection. ``tokens`` is the text's length.
    """

    grams: tuple[frozenset[_Gram], ...]
    tokens: int


@functools.cache
def _tokenizer() -> Callable[[str], str]:
    # Imported late: a plan reads what a metric needs, and would wait for it.
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


def count(text: str) -> Counted:
    """Return a text's n-grams."""
    tokens = _tokenizer()(text.rstrip()).split()
    found = []
    for length in range(1, ORDER + 1):
        grams = [" ".join(tokens[start : start + length]) for start in range(len(tokens) - length + 1)]
        once = dict.fromkeys(grams, 1)
        marked = set(once.items())
        if len(once) < len(grams):
            marked |= {(gram, nth) for gram, times in Counter(grams).items() for nth in range(2, times + 1)}
        found.append(frozenset(marked))
    return Counted(tuple(found), len(tokens))


def bleu(text: Counted, reference: Counted) -> float:
    """Return the BLEU of a text against one reference, 0 to 100; 0 where they share no token."""
    shared = text.grams[0] & reference.grams[0]
    if not shared:
        return 0.0
    logs, halvings, lengths, matched = 0.0, 1.0, 0, len(shared)
    for length, (own, other) in enumerate(zip(text.grams, reference.grams, strict=True)):
        if not own:
            break
        # Where no n-gram is shared, no longer one is.
        matched = len(own & other) if length and matched else matched
        lengths += 1
        if matched:
            logs += math.log(100.0 * matched / len(own))
        else:
            halvings *= 2
            logs += math.log(100.0 / (halvings * len(own)))
    penalty = min(1.0, math.exp(1 - reference.tokens / text.tokens))
    return penalty * math.exp(logs / lengths)


def likeness(one: Counted, other: Counted) -> float:
    """Return the BLEU of two texts averaged over both directions."""
    return (bleu(one, other) + bleu(other, one)) / 2
