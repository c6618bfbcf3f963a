"""Counts that need no model: records by stage, kind and pattern, twins, names that give the answer away."""

from __future__ import annotations

import re
from collections import Counter

from persllm.chats.turns import EXPECTED
from persllm.checks.reading import Data
from persllm.records import KINDS, PATTERNS, PREMISES

SPARSE = 20
"""A stage with fewer speech paragraphs has little of a voice to learn."""


def stages(data: Data) -> list[str]:
    """Return the stages in order of life, or of the file."""
    return list(data.card.stages) if data.card else list(dict.fromkeys(item.stage for item in data.items))


def counts(data: Data) -> dict[str, dict[str, int]]:
    """Return, per stage, how many paragraphs of each kind, items of each pattern and re-answers."""
    paragraphs = Counter((m.stage, m.kind) for m in data.materials)
    items = Counter((item.stage, item.pattern) for item in data.items)
    again = Counter(made.stage for made in data.reanswers)
    return {
        stage: {f"{kind}_material": paragraphs[stage, kind] for kind in KINDS}
        | {pattern: items[stage, pattern] for pattern in PATTERNS}
        | {"reanswers": again[stage]}
        for stage in stages(data)
    }


def twins(data: Data) -> tuple[int, list[str]]:
    """Return how many twins are complete, and the places of premise items without one."""
    ids = {item.id for item in data.items}
    premises = [item for item in data.items if item.pattern in PREMISES]
    alone = [data.place(item.id) for item in premises if item.premise_pair not in ids]
    return (len(premises) - len(alone)) // 2, alone


def names(data: Data) -> list[str]:
    """Return the words that name the persona: those of its name and of what its long text calls it."""
    if data.card is None:
        return []
    called = [data.card.name, *(data.card.source.speaker if data.card.source else ())]
    words = {word for name in called for word in re.findall(r"\w+", name)}
    return sorted(word for word in words if len(word) > 2 and word[0].isupper() and word not in _TITLES)


_TITLES = {"Mrs", "Miss", "Sir", "Lady", "Lord", "The"}


def naming(data: Data) -> dict[str, tuple[int, int, list[str]]]:
    """Return, for questions and responses, how many name the persona, of how many, and the first place."""
    words = names(data)
    if not words:
        return {}
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b")
    found = {}
    for kind, texts in (("questions", data.questions()), ("responses", data.responses())):
        places = [text.place for text in texts if pattern.search(text.text)]
        if texts:
            found[kind] = len(places), len(texts), places[:1]
    return found


def warnings(data: Data) -> list[str]:
    """Return what is no fault, but should be known before anybody trains on this."""
    told = list(data.notes)
    found = counts(data)
    for stage, count in found.items():
        if data.kind == "pack" and not count["knowledge_material"]:
            told.append(f"stage {stage!r} has no knowledge: its questions can only be about what is said")
        if data.kind == "pack" and count["speech_material"] < SPARSE:
            told.append(
                f"stage {stage!r} is sparse: {count['speech_material']} speech paragraphs, fewer than {SPARSE}; "
                "expect little of its voice"
            )
        told += [f"stage {stage!r} has no {pattern} item" for pattern in PATTERNS if data.items and not count[pattern]]
    sizes = {stage: sum(count[pattern] for pattern in PATTERNS) for stage, count in found.items()}
    if len(sizes) > 1 and max(sizes.values()) > 2 * min(sizes.values()):
        told.append(f"stages are out of balance: {', '.join(f'{n} items for {stage!r}' for stage, n in sizes.items())}")
    alone = twins(data)[1]
    if alone:
        told.append(f"premise items without a twin: {len(alone)}, the first at {alone[0]}")
    if data.kind == "pack" and not data.items:
        told.append("no items yet: questions, leakage and voice cannot be looked at")
    if data.skipped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in data.skipped.most_common())
        told.append(f"rows passed over, having no question with an answer: {reasons}")
    if data.written:
        told.append(
            f"no source for general.source: {data.written} rows with question and response; expected {EXPECTED}"
        )
    return told
