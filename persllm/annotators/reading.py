"""From an annotator's text to questions and answers, or the reason why it is none."""

from __future__ import annotations

import re

from persllm.annotators import REFUSED, Answer, examples
from persllm.annotators.labels import FALSE, QUESTION, TRUE
from persllm.answer import ANALYSIS, RESPONSE

QUESTION_WORDS = (3, 60)
ANSWER_WORDS = (3, 200)
"""Fewest and most words of an analysis, and of a response."""
_PAIRS = {('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’")}
"""Marks that an annotator may put around the whole; within, they are the text's own."""


class Broken(ValueError):
    """An answer that breaks the format; its text is the reason, in words that can be counted."""


def _whole(answer: Answer) -> str:
    if answer.finish_reason == REFUSED:
        raise Broken("refused by the server")
    if answer.finish_reason == "length":
        raise Broken("cut at annotate.max_tokens")
    if answer.finish_reason == "content_filter":
        raise Broken("stopped by the server's filter")
    if re.search(r"^(BEGIN|END) \w+ [0-9a-f]{10}$", answer.text, flags=re.MULTILINE):
        raise Broken("repeats the marks of a quotation")
    return answer.text.strip()


def _words(text: str, bounds: tuple[int, int], what: str) -> str:
    text = " ".join(text.split()).strip("* ")
    if len(text) > 1 and (text[0], text[-1]) in _PAIRS and text[0] not in text[1:-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    count = len(text.split())
    if count < bounds[0]:
        raise Broken(f"no {what}" if not count else f"{what} shorter than {bounds[0]} words")
    if count > bounds[1]:
        raise Broken(f"{what} longer than {bounds[1]} words")
    return text


def _after(text: str, label: str) -> str:
    found = re.findall(rf"^[^\w\n]*{re.escape(label)}[* \t]*(.*)$", text, flags=re.MULTILINE | re.IGNORECASE)
    if len(found) != 1:
        raise Broken(f"no line '{label}'" if not found else f"more than one line '{label}'")
    return found[0]


def questions(answer: Answer, pattern: str) -> list[str]:
    """Return the one question, or the false premise's and then the true one's.

    Raises:
        Broken: the text has not exactly the lines that were asked for.
    """
    text = _whole(answer)
    labels = [FALSE, TRUE] if pattern == "premise" else [QUESTION]
    found = [_words(_after(text, label), QUESTION_WORDS, "question") for label in labels]
    if len({question.lower() for question in found}) < len(found):
        raise Broken("both premises are the same")
    if any(_repeats(question, example.answer) for example in examples.ASKED for question in found):
        raise Broken("repeats a worked example")
    return found


def turn(answer: Answer) -> tuple[str, str]:
    """Return analysis and response.

    Raises:
        Broken: the two marks do not stand there once each, in order, with words after them.
    """
    text = _whole(answer)
    marks = [ANALYSIS.strip(), RESPONSE.strip()]
    for mark in marks:
        if text.count(mark) != 1:
            raise Broken(f"no {mark}" if mark not in text else f"more than one {mark}")
    head, _, response = text.partition(marks[1])
    before, _, analysis = head.partition(marks[0])
    if before.strip() or marks[0] in response:
        raise Broken(f"text before {marks[0]}")
    texts = _words(analysis, ANSWER_WORDS, "analysis"), _words(response, ANSWER_WORDS, "response")
    if any(_repeats(text, example.answer) for example in examples.TURNS for text in texts):
        raise Broken("repeats a worked example")
    return texts


def _repeats(text: str, example: str) -> bool:
    return " ".join(text.lower().split()) in " ".join(example.lower().split())
