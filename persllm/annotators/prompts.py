"""What an annotator is asked, in our own words, after the rules of arXiv 2407.12393 (raising questions; responses)."""

from __future__ import annotations

from persllm.annotators import Message, examples
from persllm.annotators.examples import ASKED, TURNS
from persllm.annotators.labels import FALSE, QUESTION, TRUE
from persllm.annotators.quoting import RULE, quote
from persllm.answer import ANALYSIS, RESPONSE
from persllm.packs import Card
from persllm.records import Material

_ASKS = {
    "knowledge": (
        "Write one question that the passage lets {name} answer from experience or knowledge. Ask for something that "
        "the passage says, without giving it away.\n"
        f"Answer with one line and nothing else:\n{QUESTION} ..."
    ),
    "opinion": (
        "Write what somebody might say to {name} in a relaxed talk that touches on the theme of the passage: a view of "
        "their own, which may agree with the passage, differ from it or clash with it hard. It need not be a question, "
        "and leaves room for an answer.\n"
        f"Answer with one line and nothing else:\n{QUESTION} ..."
    ),
    "premise": (
        "Write two questions on the same matter in the passage. The first takes something for granted that the passage "
        "shows to be wrong, and sounds as sure of it as people do who are mistaken. The second is its twin: alike in "
        "form and length, but what it takes for granted is right.\n"
        f"Answer with two lines and nothing else:\n{FALSE} ...\n{TRUE} ..."
    ),
}

_MANNERS = (
    "The person who speaks talks to {name} face to face, as 'you', and knows nothing of any passage. Vary the form: "
    "a plain question, a request, a doubt, a remark; not too polite; between six and thirty words; good grammar; "
    "nothing that {name} could not understand at this time of life."
)

_MISLED = (
    "What was said rests on a mistake. The analysis names it; the response does not go along with it, but says plainly "
    "what is so."
)
_RIGHT = "What was said takes nothing for granted that is wrong: the response must not deny it."


def time_line(card: Card, stage: str) -> str:
    """Return what has happened in the persona's life up to and including a stage, one event a line."""
    stages = list(card.stages)
    return "\n".join(event for name in stages[: stages.index(stage) + 1] for event in card.stages[name].timeline)


def _scene(card: Card, stage: str) -> list[str]:
    parts = [quote(f"{card.name}, {card.identity}. {card.profile}", "card")]
    parts.append(quote(f"It is {card.stages[stage].label}. {card.stages[stage].summary}", "stage"))
    line = time_line(card, stage)
    return parts + ([quote(line, "timeline")] if line else [])


def _question_task(name: str, pattern: str, kind: str, passage: str) -> str:
    return f"{quote(passage, kind)}\n\n{_ASKS[pattern].format(name=name)}"


def ask_question(card: Card, stage: str, pattern: str, material: Material, use: int = 0) -> list[Message]:
    """Return the messages that ask for a question (or for a pair of premise twins) about a paragraph.

    A worked example of the pattern goes before as an earlier turn.

    Args:
        card: the persona.
        stage: whose time it is.
        pattern: ``knowledge``, ``opinion`` or ``premise``.
        material: the paragraph.
        use: how many questions of the pattern it has given before.
    """
    name = quote_name(card)
    system = f"You write what people say to {name}, for a collection of talks. {_MANNERS.format(name=name)}\n\n{RULE}"
    messages = [{"role": "system", "content": system}]
    for example in ASKED:
        if example.pattern == pattern:
            task = _question_task(examples.NAME, pattern, example.kind, example.passage)
            messages += _example(task, example.answer)
    kind = "speech" if material.kind == "speech" else "passage"
    task = _question_task(name, pattern, kind, material.text)
    if use:
        task += f"\n\nThe passage has served {use} time(s) before: take another matter in it than comes to mind first."
    return [*messages, {"role": "user", "content": "\n\n".join([*_scene(card, stage), task])}]


def ask_turn(card: Card, stage: str, pattern: str | None, question: str, shown: list[Material]) -> list[Message]:
    """Return the messages that ask for an analysis and a response in character.

    Five worked examples go before as earlier turns: a fact, a view shared in part, one opposed, two false premises.

    Args:
        card: the persona.
        stage: who answers, and when.
        pattern: the item's; None where another stage's question is answered, whose premises may hold or not.
        question: what the user says.
        shown: the materials that were retrieved, knowledge before speech.
    """
    name = quote_name(card)
    system = (
        f"You write what {name} answers, as {name} is at the one time of life that is described, knowing nothing of "
        f"what comes later. Keep to {name}'s way of speaking and to what {name} knows. Think first: the analysis says "
        f"in one or two sentences what the user wants or takes for granted and what {name} knows, feels and would do "
        "about it. The response is spoken words only, two to four sentences. It may judge, tease, refuse, ask back or "
        f"turn the talk elsewhere. {name} does not always agree with the user, and does not flatter.\n\n"
        f"Write exactly this, each mark once:\n{ANALYSIS.strip()} ...\n{RESPONSE.strip()}\n...\n\n{RULE}"
    )
    messages = [{"role": "system", "content": system}]
    for example in TURNS:
        messages += _example(_turn_task(examples.NAME, example.pattern, example.user), example.answer)
    parts = _scene(card, stage)
    parts += [quote(m.text, "speech" if m.kind == "speech" else "knowledge") for m in shown]
    parts.append(_turn_task(name, pattern, question))
    return [*messages, {"role": "user", "content": "\n\n".join(parts)}]


def _turn_task(name: str, pattern: str | None, question: str) -> str:
    notices = {"false_premise": [_MISLED], "true_premise": [_RIGHT]}
    parts = [quote(question, "user"), *notices.get(pattern or "", [])]
    return "\n\n".join([*parts, f"Write {name}'s analysis and response to what the user says."])


def _example(task: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": task}, {"role": "assistant", "content": answer}]


def quote_name(card: Card) -> str:
    """Return the persona's name as it may stand in a system message: one line of letters, marks and spaces."""
    return "".join(c for c in card.name if c.isalnum() or c in " .'-").strip()[:60]
