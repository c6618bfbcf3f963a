"""The text form of an answer: the response alone, or an analysis before it."""

from __future__ import annotations

ANALYSIS = "[Analysis] "
RESPONSE = "\n[Response]\n"


def render(analysis: str | None, response: str) -> str:
    """Return the assistant's text."""
    return response if analysis is None else f"{ANALYSIS}{analysis}{RESPONSE}{response}"


def parse(text: str, analyses: bool) -> tuple[str | None, str | None]:
    """Return ``(analysis, response)`` of a generated text.

    Where an analysis is expected and the text never reaches the response, the response is None: missing.
    """
    if not analyses:
        return None, text.strip() or None
    head, marker, tail = text.partition(RESPONSE.strip())
    analysis = head.removeprefix(ANALYSIS.strip()).strip()
    return analysis, (tail.strip() or None) if marker else None


def prefix(analysis: str | None) -> str:
    """Return the text that stands before the response."""
    return "" if analysis is None else f"{ANALYSIS}{analysis}{RESPONSE}"
