"""Recipe long_context: the profile, and as much of the persona's materials as two budgets of words hold.

Nothing is searched: the text is the same for every question of a stage, so that it need be read only once. The stage's
own paragraphs come first, then those of the stages nearest to it within ``scope``; what was chosen is told in the order
of life. Where the budgets hold less than there is, every second or third paragraph is left out and not the end of each
stage.
"""

from persllm.prompting import Message, Source, profile
from persllm.prompting.retrieval import HEADINGS, told, within
from persllm.records import Material


def spread(paragraphs: list[Material], words: int) -> list[Material]:
    """Return as many paragraphs as fit a budget, spread evenly over them, in their own order.

    They are tried in halves of the way: the first, the middle, the quarters, the eighths; one too long is passed over.
    """
    count = len(paragraphs)
    bits = max(count - 1, 1).bit_length()
    order = sorted(range(count), key=lambda place: int(f"{place:0{bits}b}"[::-1], 2))
    chosen, used = [], 0
    for place in order:
        length = len(paragraphs[place].text.split())
        if used + length <= words:
            chosen.append(place)
            used += length
    return [paragraphs[place] for place in sorted(chosen)]


def choose(source: Source, stage: str, kind: str) -> list[Material]:
    """Return a stage's paragraphs of a kind within the kind's budget, in the order of life."""
    stages, words = within(source, stage), source.config[f"{kind}_words"]
    own = list(source.card.stages).index(stage)
    found: dict[str, list[Material]] = {}
    for name in sorted(stages, key=lambda name: abs(list(source.card.stages).index(name) - own)):
        pool = [m for m in source.materials if m.stage == name and m.kind == kind]
        found[name] = spread(sorted(pool, key=lambda m: m.order), words)
        words -= sum(len(m.text.split()) for m in found[name])
    return [m for name in stages for m in found[name]]


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the system message, which is the same for all questions of a stage, and the question."""
    return told(profile.system(source.card, stage), {kind: choose(source, stage, kind) for kind in HEADINGS}, question)
