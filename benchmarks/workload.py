"""What is measured on: the quickstart study's own sequences, pairs and prompts, under its own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm import packs
from persllm.compose import Cell, resolve
from persllm.errors import UserError
from persllm.language_model import chat_ids, load_tokenizer, model_source, text_ids
from persllm.nodes import plain
from persllm.prompting import Source, build
from persllm.records import Item, Material, Reanswer
from persllm.schema import Config
from persllm.scoring import Case
from persllm.steps import pairs, split
from persllm.training.data import Encoder, pair_sequences, prompt_source, sft_sequences
from persllm.training.setup import Unit

LONG = 2000


@dataclass(frozen=True)
class Workload:
    """The first persona's data under the first arm that is tuned by SFT and DPO."""

    persona: str
    source: str
    """What ``from_pretrained`` takes."""
    model: dict[str, Any]
    tune: dict[str, Any]
    seed: int
    tokenizer: Any
    sft: list[Unit]
    dpo: list[Unit]
    prompts: list[list[int]]
    """Token ids; the study's prompted arms take turns, so that lengths are mixed as they are in a study."""
    generate: dict[str, Any]
    cases: list[Case]
    """Prompts of ``prompt_profile`` at one stage, each with four answers to weigh, its own first."""
    long_cases: list[Case]
    """The same with paragraphs put into the system message, until the prompts share ``LONG`` tokens."""

    @property
    def bf16(self) -> bool:
        """Whether the base is kept and run in bfloat16."""
        return self.model["dtype"] == "bfloat16"


@dataclass(frozen=True)
class _Pack:
    card: packs.Card
    paragraphs: list[Material]
    parts: dict[str, list[Item]]
    reanswers: list[Reanswer]


def _read(config: Config, pack: str) -> _Pack:
    root = packs.folder(pack)
    card = packs.load_card(root)
    paragraphs = packs.load_materials(root, card)
    items, reanswers = packs.load_items(root, card, paragraphs)
    part = split.assign(items, config.split.test, config.split.dev, config.split.seed)
    parts = {name: [item for item in items if part[item.material_id] == name] for name in split.PARTS}
    return _Pack(card, paragraphs, parts, reanswers)


def _pairs(config: Config, own: _Pack, others: list[_Pack]) -> list[Any]:
    made = []
    if config.pairs.cross_stage:
        made += pairs.cross_stage(own.parts["train"], own.reanswers)
    if config.pairs.cross_persona:
        pool = [item for other in others for item in other.parts["train"]]
        made += pairs.cross_persona(own.parts["train"], pool, config.pairs.rank, config.pairs.embedder)[0]
    # Interleaved, so that the first steps meet both kinds as the shuffled run does.
    return made[::2] + made[1::2]


def _prompts(cells: list[Cell], own: _Pack, tokenizer: Any, count: int) -> list[list[int]]:
    held = {item.material_id for part in ("dev", "test") for item in own.parts[part]}
    paragraphs = [m for m in own.paragraphs if m.id not in held]
    recipes = [plain(cell.config.method.prompt) | {"temporal_label": "text"} for cell in cells]
    sources = [Source(own.card, recipe, paragraphs, own.parts["train"]) for recipe in recipes]
    return [
        chat_ids(tokenizer, build(sources[i % len(sources)], item.stage, item.question))
        for i, item in enumerate(own.parts["test"][:count])
    ]


def _cases(cell: Cell, own: _Pack, tokenizer: Any, count: int, tokens: int = 0) -> list[Case]:
    """Return prompts and answers of one stage, the system messages of ``tokens`` tokens or more."""
    recipe = plain(cell.config.method.prompt) | {"temporal_label": "text"}
    source = Source(own.card, recipe, own.paragraphs, own.parts["train"])
    stage = next(iter(own.card.stages))
    items = [item for item in own.parts["test"] if item.stage == stage][:count]
    answers = [text_ids(tokenizer, item.response) for item in items]
    more: list[str] = []
    for paragraph in own.paragraphs:
        if len(text_ids(tokenizer, " ".join(more))) >= tokens:
            break
        more.append(paragraph.text)
    cases = []
    for index, item in enumerate(items):
        messages = build(source, stage, item.question)
        messages[0] = {"role": "system", "content": "\n".join([messages[0]["content"], *more])}
        cases.append((chat_ids(tokenizer, messages), (answers[index:] + answers[:index])[:4]))
    return cases


def load(overrides: list[str], prompts: int) -> Workload:
    """Compose the study and build its data.

    Args:
        overrides: ``key=value`` words, as for ``persllm run``.
        prompts: how many prompts to build, at most.

    Raises:
        UserError: an override that is wrong, or no arm tuned by SFT and DPO, or no prompted arm.
    """
    resolved = resolve(["study=quickstart", *overrides])
    first = resolved.cells[0]
    cells = [cell for cell in resolved.cells if cell.persona == first.persona and cell.seed == first.seed]
    prompted = [cell for cell in cells if cell.config.method.tune is None]
    tuned = next((c for c in cells if c.config.method.tune is not None and c.config.method.tune.dpo is not None), None)
    if tuned is None or not prompted:
        raise UserError("benchmarks need an arm with SFT and DPO and a prompted arm; leave method at the quickstart's")
    config, tune, model = tuned.config, plain(tuned.config.method.tune), plain(tuned.config.model)
    own = _read(config, config.persona.pack)
    profile = next((c for c in prompted if c.config.method.name == "prompt_profile"), prompted[0])
    others = {c.config.persona.pack for c in resolved.cells} - {config.persona.pack}
    source = model_source(config.model.path, Path(config.outputs))
    tokenizer = load_tokenizer(source, config.model.revision)
    encoder = Encoder(tokenizer, config.model.max_length)
    prompt = prompt_source(own.card, config.method.prompt.recipe.value, tune)
    made = _pairs(config, own, [_read(config, pack) for pack in sorted(others)])
    return Workload(
        persona=tuned.persona,
        source=source,
        model=model,
        tune=tune,
        seed=tuned.seed,
        tokenizer=tokenizer,
        sft=[(sequence,) for sequence in sft_sequences(own.parts["train"], prompt, tune, encoder)],
        dpo=list(pair_sequences(made, prompt, tune, encoder)),
        prompts=_prompts(prompted, own, tokenizer, prompts),
        generate=plain(config.generate),
        cases=_cases(profile, own, tokenizer, prompts),
        long_cases=_cases(profile, own, tokenizer, min(prompts, 8), LONG),
    )
