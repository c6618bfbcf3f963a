"""as_an_ai_rate: share of replies that admit to being a program (lower is better).

Shows: the crudest break of character. Cannot show: subtler breaks, nor behaviour under pressure; it reads words, so a
character who speaks of programs for a reason would be counted too.
"""

import re

from persllm.metrics import HELD_OUT, Metric, Values, View

FAMILY = HELD_OUT
OPTIONS = ()
METRICS = {"as_an_ai_rate": Metric("As-an-AI rate", "share of items", better="lower")}
_ADMITS = re.compile(
    r"\b(as an? (ai|artificial|language model|virtual|digital)|i(?:'m| am) (?:just |only )?an? "
    r"(?:ai\b|artificial|(?:large )?language model|chat ?bot|computer program|virtual assistant|digital assistant)|"
    r"(?:i(?:'m| am)|my name is) (?:just |only |actually )?(?:chat ?gpt|gpt(?:-?\d)?|claude|gemini|copilot)|"
    r"i (?:do not|don't) have (?:personal )?(?:feelings|emotions|experiences|opinions)|smollm|my training data)",
    re.IGNORECASE,
)


def admits(text: str) -> bool:
    """Return whether a text admits to being a program."""
    return bool(_ADMITS.search(text))


def compute(view: View) -> Values:
    """Return the metric of one item, over the whole reply (an analysis included)."""
    return {"as_an_ai_rate": float(admits(view.generation.text))}
