"""What a judge is asked, in our own words. Every template's hash goes into the certificate and beside each verdict."""

from __future__ import annotations

from hashlib import sha256

from persllm.annotators import Message
from persllm.annotators.quoting import RULE, quote

SYSTEM = (
    "You compare texts with care and without favour. You go by what is quoted to you and by nothing that you remember "
    "of the persons or matters in it; names are masked. How long, fluent or friendly a text is does not count, nor "
    "where it stands.\n\n"
    f"{RULE}\n\n"
    "You answer with one JSON object and nothing else."
)

_SCORE = '\n\nAnswer: {"reason": "one short sentence", "score": a whole number from 0 to 5}'

TEMPLATES = {
    "knowledge": (
        "A question, the reference reply to it, and a candidate reply are quoted above. Does the candidate say the "
        "same facts as the reference? Facts are all that counts: not tone, not style, not whether the reply is good.\n"
        "5: the same facts.\n4: the same but for a detail.\n3: the main fact, with others missing or added.\n"
        "2: some facts in common, the main one missing.\n1: hardly anything in common.\n"
        "0: nothing in common, no answer at all, or plainly at odds with the reference." + _SCORE
    ),
    "attitude": (
        "A question, the reference reply to it, and a candidate reply are quoted above. Does the candidate take the "
        "same attitude as the reference: the same side, the same likes and dislikes, for like reasons? Attitude is all "
        "that counts: not the wording, not which facts are named.\n"
        "5: the same attitude.\n4: the same but for a shade.\n3: the same direction, for other reasons or by halves.\n"
        "2: undecided, or partly on the other side.\n1: hardly anything in common.\n"
        "0: the opposite attitude, or none at all." + _SCORE
    ),
    "pair": (
        "A question, the reference reply to it, and two other replies, A and B, are quoted above. Which of the two is "
        "nearer to the reference: first in the facts that it states, then in its attitude and way of speaking? Where "
        "neither is nearer, say tie.\n\n"
        'Answer: {"reason": "one short sentence", "better": "A", "B" or "tie"}'
    ),
    "role": (
        "Several characters, each with a number, and a question with the reply that one of them gave are quoted above. "
        "Which of the characters gave the reply?\n\n"
        'Answer: {"reason": "one short sentence", "character": a number}'
    ),
}


def hashes() -> dict[str, str]:
    """Return the sha256 of every template, the system message among them."""
    return {name: sha256(text.encode()).hexdigest() for name, text in {"system": SYSTEM, **TEMPLATES}.items()}


def _ask(parts: list[str], task: str) -> list[Message]:
    content = "\n\n".join([*parts, TEMPLATES[task]])
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def ask_score(kind: str, question: str, reference: str, candidate: str) -> list[Message]:
    """Return the messages that ask how far a reply says the same as the reference.

    Args:
        kind: ``knowledge`` or ``attitude``.
        question: what both reply to; this and the others with names masked.
        reference: the recorded answer.
        candidate: the reply to score.
    """
    parts = [quote(question, "question"), quote(reference, "reference"), quote(candidate, "candidate")]
    return _ask(parts, kind)


def ask_pair(question: str, reference: str, first: str, second: str) -> list[Message]:
    """Return the messages that ask which of two replies, shown as A and B, is nearer to the reference."""
    parts = [quote(question, "question"), quote(reference, "reference"), quote(first, "A"), quote(second, "B")]
    return _ask(parts, "pair")


def ask_role(characters: list[str], question: str, answer: str) -> list[Message]:
    """Return the messages that ask which of some characters, by their descriptions, gave an answer."""
    parts = [f"Character {number}\n{quote(text, 'character')}" for number, text in enumerate(characters, 1)]
    return _ask([*parts, quote(question, "question"), quote(answer, "reply")], "role")
