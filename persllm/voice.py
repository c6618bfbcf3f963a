"""Who speaks? A plain classifier of masked texts.

TF-IDF of words and word pairs with logistic regression: no embedding and no language model, so that what it finds is in
the words themselves. Names are masked, for they would give the answer away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MASK = "somename"
TINY = 1e-9
"""What a spread is at least: of a single text there is none."""
_WORD = re.compile(r"\w+(?:['’]\w+)*|[.!?…]+|\S", re.UNICODE)
_ENDS = (".", "!", "?", "…", ":", '"', "“", "”", "‘", "(", "—", "-")
_SHORT = ("Mr", "Mrs", "Ms", "Dr", "St")
"""Shortened words, whose full stop ends no sentence."""


def _starts(words: Sequence[str]) -> Iterable[tuple[str, bool]]:
    """Yield each word and whether it opens a sentence or a quotation, where a capital says nothing."""
    opens, last = True, ""
    for word in words:
        yield word, opens
        opens = (word[-1] in _ENDS and last not in _SHORT) or (opens and not word[0].isalnum())
        last = word


def _stem(word: str) -> str:
    return re.sub(r"['’]s$", "", word)


def _capital(word: str) -> bool:
    return word[0].isupper() and word != "I" and not word.startswith(("I'", "I’"))


class Masker:
    """Masks names, as some texts show which words are names.

    Masked are every word with a capital inside a sentence, and, wherever they stand, the given names and every word
    that has such a capital anywhere in the texts, but for those that are also met in small letters.

    Args:
        texts: that show it.
        names: given names.
    """

    def __init__(self, texts: Sequence[str], names: Iterable[str]) -> None:
        cut = [_WORD.findall(text) for text in texts]
        proper = {word for name in names for word in re.findall(r"\w+", name)}
        small = {word for words in cut for word in words if word[0].islower()}
        for words in cut:
            proper |= {word for word, opens in _starts(words) if not opens and _capital(word)}
        self.always = {word for word in proper if word.lower() not in small}

    def masked(self, text: str) -> str:
        """Return a text with its names masked, its words and signs apart."""
        kept = [
            MASK if word in self.always or _stem(word) in self.always or (not opens and _capital(word)) else word
            for word, opens in _starts(_WORD.findall(text))
        ]
        return " ".join(kept)


def mask(texts: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return texts with names masked, as the texts themselves show which words are names; see ``Masker``."""
    masker = Masker(texts, names)
    return [masker.masked(text) for text in texts]


@dataclass(frozen=True)
class Classifier:
    """Names the speaker of a text."""

    labels: list[str]
    vectors: Any
    model: Any
    means: Floats
    """By label, the mean score of the texts of all others that it was trained on, ``[labels]``."""
    spreads: Floats
    """By label, their scores' standard deviation."""

    @classmethod
    def fit(cls, train: Sequence[tuple[str, str]]) -> Classifier:
        """Learn from labelled texts.

        Args:
            train: ``(label, text)``, of two labels at least.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+(?:['’]\w+)*|[^\w\s]")
        model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000)
        known = vectors.fit_transform([text for _, text in train])
        model.fit(known, [label for label, _ in train])
        labels = [str(label) for label in model.classes_]
        foreign = np.array([[label != other for other in labels] for label, _ in train])
        scores = np.ma.masked_array(_scores(model, known), ~foreign)
        return cls(labels, vectors, model, np.asarray(scores.mean(axis=0)), np.asarray(scores.std(axis=0)) + TINY)

    def named(self, texts: Sequence[str]) -> list[str]:
        """Return the likeliest label of each text."""
        return [str(label) for label in self.model.predict(self.vectors.transform(texts))] if texts else []

    def standing(self, texts: Sequence[str]) -> Floats:
        """Return how far each text's score for a label is above those of texts of other labels, ``[texts, labels]``.

        In standard deviations, so that a label with few texts to learn from, whose scores are low, is named as often as
        others: with a fifth of the paragraphs of the rest, one shipped persona was named in 19 of 100 of its responses
        by the likeliest label, and in 92 by this one.
        """
        if not texts:
            return np.zeros((0, len(self.labels)))
        return (_scores(self.model, self.vectors.transform(texts)) - self.means) / self.spreads


def _scores(model: Any, vectors: Any) -> Floats:
    """Return the scores of texts, ``[texts, labels]``, which for two labels is one number and its opposite."""
    scores = np.asarray(model.decision_function(vectors), dtype=np.float64)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)


def identify(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]]) -> tuple[float, list[str]]:
    """Train on labelled texts and name the speakers of others.

    Args:
        train: ``(label, text)``, of two labels at least.
        test: the same.

    Returns:
        The accuracy and, for each test text, the label that was named.
    """
    named = Classifier.fit(train).named([text for _, text in test])
    right = sum(label == told for (label, _), told in zip(test, named, strict=True))
    return right / len(test), named
