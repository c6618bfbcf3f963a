"""Names hidden from a judge: the characters' own names go from everything that it is shown, arms have none anyway."""

from __future__ import annotations

import re
from collections.abc import Iterable

from persllm.packs import Card

MASK = "(name)"
_LEAST = 3
"""Letters of a word that counts as a name; shorter ones are particles."""


def names(cards: Iterable[Card]) -> list[str]:
    """Return the words by which characters are called: of their names, and as their texts call them."""
    texts = [text for card in cards for text in (card.name, *(card.source.speaker if card.source else ()))]
    words = {word.strip(".,'’") for text in texts for word in text.split()}
    return sorted(word for word in words if len(word) >= _LEAST and word[0].isupper() and word.lower() != "the")


def mask(text: str, hidden: list[str]) -> str:
    """Return a text with every name, alone or several in a row, put as ``(name)``."""
    if not hidden:
        return text
    one = "|".join(map(re.escape, sorted(hidden, key=len, reverse=True)))
    return re.sub(rf"\b(?:{one})\b(?:\s+(?:{one})\b)*", MASK, text)
