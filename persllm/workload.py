"""How much a planned step has to do, and how long its sequences are, from a persona pack's texts. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from persllm import prompting
from persllm.answer import render
from persllm.chats.collect import is_own
from persllm.choices import PairKind
from persllm.packs import Card
from persllm.records import PREMISES, Item, Material, Reanswer
from persllm.schema import Annotate, Config
from persllm.schema_method import Optim, Tune

BYTES_PER_TOKEN = 3
"""Of UTF-8, at least: English has four or more in most vocabularies, and Chinese three."""
TEMPLATE_TOKENS = 64
"""What a chat template may add to a prompt."""
QUESTION_BYTES = 600
"""Of the longest question that an annotator may write."""


@dataclass(frozen=True)
class Pack:
    """A persona's texts."""

    card: Card
    paragraphs: list[Material]
    items: list[Item]
    reanswers: list[Reanswer]


def unannotated(card: Card, annotate: Annotate, paragraphs: list[Material]) -> Pack:
    """Return what a pack will hold at most once its items are written: as many, each as long as it may be.

    Args:
        card: the persona.
        annotate: what is asked for.
        paragraphs: the materials; of one long text none, which are known when they have been made.
    """
    text = "x" * annotate.max_tokens * BYTES_PER_TOKEN
    counts = {"knowledge": annotate.knowledge, "opinion": annotate.opinion}
    counts |= dict.fromkeys(PREMISES, annotate.premise)
    common: dict[str, Any] = {"persona": card.name, "annotator": annotate.annotator.value}
    common |= {"analysis": "", "response": text}
    items = [
        Item(
            id=f"{stage}-{pattern}-{i}",
            stage=stage,
            pattern=pattern,
            material_id=f"{stage}-{i}",
            premise_pair=pattern if pattern in PREMISES else None,
            question="x" * QUESTION_BYTES,
            **common,
        )
        for stage in card.stages
        for pattern, count in counts.items()
        for i in range(count)
    ]
    again = [
        Reanswer(item_id=item.id, stage=stage, **common)
        for item in items
        for stage in card.stages
        if annotate.reanswers and stage != item.stage
    ]
    return Pack(card, paragraphs, items, again)


@dataclass(frozen=True)
class Lengths:
    """Of the longest sequence that is trained on, in tokens, from its bytes: at most about this long."""

    tokens: int
    answer: int
    """Those with loss."""


def _train_share(config: Config) -> float:
    return 1 - config.split.test - config.split.dev


def test_items(config: Config, pack: Pack) -> int:
    """Return about how many items are held out for the report."""
    return max(1, round(config.split.test * len(pack.items)))


def sft_units(config: Config, tune: Tune, pack: Pack) -> int:
    """Return about how many sequences supervised tuning sees, over all epochs."""
    share = _train_share(config)
    kept = [item for item in pack.items if tune.anti_induction or item.pattern not in PREMISES]
    count = share * len(kept) * tune.repeat
    if tune.reanswers:
        count += share * len(pack.reanswers)
    if tune.materials:
        held = {item.material_id for item in pack.items}
        count += sum(1 if paragraph.id not in held else share for paragraph in pack.paragraphs)
    if tune.general:
        ratio, most = config.general.ratio, config.general.limit
        count += most if ratio is None else min(most, ratio * count)
    return _units(tune.sft, count)


def dpo_units(config: Config, tune: Tune, pack: Pack) -> int:
    """Return about how many pairs one step of preference tuning sees, over all epochs."""
    assert tune.dpo is not None
    share = _train_share(config)
    kept = {item.id for item in pack.items if tune.anti_induction or item.pattern not in PREMISES}
    count = 0.0
    limits = config.pairs.cross_persona_limit, config.pairs.cross_stage_limit
    if config.pairs.cross_persona and PairKind.cross_persona in tune.dpo.pairs:
        count += min(share * len(kept), len(kept) if limits[0] is None else limits[0])
    if config.pairs.cross_stage and PairKind.cross_stage in tune.dpo.pairs:
        both = 2 * share * sum(again.item_id in kept for again in pack.reanswers)
        count += min(both, both if limits[1] is None else limits[1])
    apart = len(pack.card.stages) if tune.dpo.per_stage else 1
    return _units(tune.dpo, count / apart)


def _units(optim: Optim, epoch: float) -> int:
    return optim.steps * optim.batch_size if optim.steps else max(1, round(epoch)) * optim.epochs


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def longest(config: Config, pack: Pack) -> Lengths:
    """Return the longest sequence that a tuned arm may train on: its longest prompt with its longest answer."""
    tune, limit = config.method.tune, config.model.max_length
    assert tune is not None
    label = {"recipe": config.method.prompt.recipe.value, "temporal_label": tune.temporal_label.value}
    source = prompting.Source(pack.card, label)
    question = max((item.question for item in pack.items), key=len, default="")
    prompts = ["".join(m["content"] for m in prompting.build(source, s, question)) for s in pack.card.stages]
    answers = [render(one.analysis if tune.analysis else None, one.response) for one in (*pack.items, *pack.reanswers)]
    answers += [paragraph.text for paragraph in pack.paragraphs] if tune.materials else []
    answer = max(map(_tokens, answers), default=0)
    if tune.general:
        # How long a data set's answers are, only the data set knows.
        answer = max(answer, config.general.max_new_tokens if is_own(config.general) else limit)
    tokens = min(limit, max(map(_tokens, prompts)) + TEMPLATE_TOKENS + answer)
    return Lengths(tokens, min(answer, tokens))
