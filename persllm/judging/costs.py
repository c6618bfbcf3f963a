"""What a judge will be asked, and what that costs, before anything runs. Imports no torch."""

from __future__ import annotations

from typing import Any

from persllm.annotators.budget import BYTES_PER_TOKEN, Estimate, price
from persllm.judging import PADDING, PATTERNS, prompts
from persllm.judging.design import meetings
from persllm.nodes import plain
from persllm.schema import Config
from persllm.workload import Pack

VERDICT_TOKENS = 45
"""Of a usual verdict with its reason."""
REPLY_BYTES = 4
"""Of an arm's reply, for each token that it may have."""


def _tokens(*texts: str) -> float:
    return sum(len(text.encode()) for text in texts) / BYTES_PER_TOKEN


def _mean(texts: list[str]) -> float:
    return sum(map(_tokens, texts)) / len(texts) if texts else 0.0


def estimate(
    config: Config, pack: Pack, probes: dict[str, dict[str, list[dict[str, Any]]]], arms: int, characters: int
) -> Estimate:
    """Return what one judge step takes at most: scores, comparisons and its own trial.

    Args:
        config: sections judge, split and generate.
        pack: the persona's texts.
        probes: its probe files.
        arms: how many are judged.
        characters: how many are shown where a speaker is to be found.
    """
    judge = config.judge
    items = {name: sum(item.pattern == name for item in pack.items) for name in PATTERNS}
    judged = 0
    for count in items.values():
        held = max(1, round(config.split.test * count)) if count else 0
        judged += held if judge.items is None else min(held, judge.items)
    limit = judge.certificate.items
    gold = min(limit, sum(items.values()))
    stances, premises = (sum(len(rows) for rows in probes.get(kind, {}).values()) for kind in ("stances", "premises"))
    planted = 3 * sum(min(limit, count) for count in items.values()) + 2 * min(limit, stances) + min(limit, premises)
    # Of planted_answers.jsonl, at most: so many of each kind, each in two wordings, which also meet.
    worded = limit * len(PATTERNS)
    planted += 2 * worded
    frame = _tokens(prompts.SYSTEM) + max(map(_tokens, prompts.TEMPLATES.values())) + 60
    question, answer = _mean([item.question for item in pack.items]), _mean([item.response for item in pack.items])
    reply = config.generate.max_new_tokens * REPLY_BYTES / BYTES_PER_TOKEN
    described = _mean([f"{pack.card.identity} {pack.card.profile} {s.summary}" for s in pack.card.stages.values()])
    pairs = 2 * len(meetings(arms, judged, judge.comparisons))
    asked = {
        "replies": (judge.repeats * judged * arms, question + answer + reply),
        "pairs": (pairs, question + answer + 2 * reply),
        "planted": (judge.repeats * planted, question + 2 * answer + _tokens(PADDING) / 2),
        "known pairs": (2 * (gold + worded), question + 3 * answer + _tokens(PADDING)),
        "roles": (gold, question + answer + characters * described),
    }
    requests = sum(count for count, _ in asked.values())
    prompt = round(sum(count * (frame + tokens) for count, tokens in asked.values()))
    completion = requests * VERDICT_TOKENS
    return Estimate(requests, prompt, completion, price((prompt, completion), plain(judge.endpoint)))
