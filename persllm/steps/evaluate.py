"""Step evaluate: score one arm's replies and likelihoods on the held-out items."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from persllm import records
from persllm.answer import prefix
from persllm.embeddings import embed
from persllm.errors import UserError, did_you_mean
from persllm.execute import Context
from persllm.language_model import text_ids
from persllm.metrics import Likelihood, View
from persllm.progress import bar
from persllm.records import Generation, Item, Score
from persllm.scoring import option_log_likelihoods
from persllm.steps import generate, split


def metric_modules(names: list[str]) -> list[ModuleType]:
    """Return the metric modules of these names."""
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(f"persllm.metrics.{name}"))
        except ModuleNotFoundError as error:
            if error.name != f"persllm.metrics.{name}":
                raise
            known = ("likelihood", "choice", "premise", "overlap", "robot")
            raise UserError(
                f"evaluate.metrics: no metric {name!r} in persllm/metrics{did_you_mean(name, known)}"
            ) from error
    return found


def answer_options(
    items: list[Item], others: list[Item], stage_answers: dict[str, str], generic: dict[str, str], embedder: str
) -> dict[str, dict[str, str]]:
    """Return each item's competing answers by kind; a kind is absent where there is none.

    Args:
        items: held-out items of one persona.
        others: held-out items of the other personas; the nearest question's answer competes.
        stage_answers: item id to the other stage's answer to the same question.
        generic: item id to the base model's answer without a persona.
        embedder: see persllm.embeddings.
    """
    by_id = {item.id: item for item in items}
    nearest: list[int] = []
    if others:
        own = embed([item.question for item in items], embedder)
        nearest = np.argmax(own @ embed([item.question for item in others], embedder).T, axis=1).tolist()
    options = {}
    for index, item in enumerate(items):
        kinds = {"gold": item.response}
        if others:
            kinds["other_persona"] = others[nearest[index]].response
        if item.id in stage_answers:
            kinds["other_stage"] = stage_answers[item.id]
        if generic.get(item.id):
            kinds["generic"] = generic[item.id]
        if item.premise_pair in by_id:
            kinds["twin"] = by_id[item.premise_pair].response
        options[item.id] = kinds
    return options


def own_analysis(generation: Generation, analyses: bool) -> str | None:
    """Return the arm's own analysis, or None for an arm that has none; a reply without the format gives all it said."""
    if not analyses:
        return None
    return generation.analysis or ""


def run(ctx: Context) -> None:
    """Write ``scores.jsonl``, ``items.jsonl`` (what was scored) and ``options.jsonl`` (each answer's likelihood)."""
    modules = metric_modules(ctx.config["metrics"])
    needed = {kind for module in modules for kind in module.OPTIONS}
    items = split.read(ctx.inputs["split"], "test")
    others = [
        item
        for role, path in sorted(ctx.inputs.items())
        if role.startswith("other_")
        for item in split.read(path, "test")
    ]
    stage_answers: dict[str, str] = {}
    for again in split.read_reanswers(ctx.inputs["split"]):
        # With more than two stages, the card's first other one competes.
        stage_answers.setdefault(again.item_id, again.response)
    generic = {g.item_id: g.response or "" for g in generate.read(ctx.inputs["generic"])}
    options = answer_options(items, others, stage_answers, generic, ctx.config["embedder"])
    made = {g.item_id: g for g in generate.read(ctx.inputs["generate"])}
    prompts = generate.read_prompts(ctx.inputs["generate"])
    arm = generate.step_config(ctx.inputs["generate"])
    analyses = bool(arm["tune"] and arm["tune"]["analysis"])
    priors = read_likelihoods(ctx.inputs["prior"]) if "prior" in ctx.inputs else {}
    stages = list(dict.fromkeys(item.stage for item in items))
    found: dict[str, dict[str, Likelihood]] = {}
    chosen = {item.id: {kind: text for kind, text in options[item.id].items() if kind in needed} for item in items}
    with bar(len(items), f"{arm['arm']} likelihoods") as progress:

        def each(count: int) -> None:
            progress(count)
            ctx.check_stop()

        for voice in generate.voices(ctx.inputs, stages):
            model = None  # Freed before the next stage's weights are loaded.
            model, tokenizer = generate.load_arm(ctx, voice[0])
            for stage in voice:
                # A stage at a time: its prompts begin alike, and what they share is read once.
                leads = {
                    item.id: prompts[item.id][1] + text_ids(tokenizer, prefix(own_analysis(made[item.id], analyses)))
                    for item in items
                    if item.stage == stage
                }
                found |= _likelihoods(model, tokenizer, leads, chosen, each)
    rows = [
        {
            "item_id": item.id,
            "kind": kind,
            "text": chosen[item.id][kind],
            "log_likelihood": round(value.total, 5),
            "tokens": value.tokens,
        }
        for item in items
        for kind, value in found[item.id].items()
    ]
    views = [View(item, made[item.id], found[item.id], priors.get(item.id, {})) for item in items]
    scores = [score for view in views for score in _scores(view, modules, arm["arm"], arm["seed"])]
    records.write(ctx.out / "scores.jsonl", scores)
    records.write(ctx.out / "items.jsonl", items)
    records.write(ctx.out / "options.jsonl", rows)
    ctx.log(items=len(items), scores=len(scores), missing=sum(score.value is None for score in scores))


def _likelihoods(
    model: Any,
    tokenizer: Any,
    leads: dict[str, list[int]],
    texts: dict[str, dict[str, str]],
    each: Callable[[int], None],
) -> dict[str, dict[str, Likelihood]]:
    """Return the likelihoods of texts by item and kind.

    Args:
        model: base or tuned model.
        tokenizer: its tokenizer.
        leads: by item, the token ids that stand before its texts.
        texts: by item (of more items than these, perhaps) and kind.
        each: called with the number of items whenever some are done.
    """
    ids = {item: {kind: text_ids(tokenizer, text) for kind, text in texts[item].items()} for item in leads}
    asked = [item for item in leads if ids[item]]
    each(len(leads) - len(asked))
    totals = option_log_likelihoods(model, [(leads[item], list(ids[item].values())) for item in asked], each)
    by_item = dict(zip(asked, totals, strict=True))
    return {
        item: {
            kind: Likelihood(total, len(tokens))
            for (kind, tokens), total in zip(ids[item].items(), by_item.get(item, []), strict=True)
        }
        for item in leads
    }


def read_likelihoods(artifacts: Path) -> dict[str, dict[str, Likelihood]]:
    """Read an evaluate step's likelihoods, by item and kind of answer."""
    found: dict[str, dict[str, Likelihood]] = {}
    for _, row in records.read_json_lines(artifacts / "options.jsonl"):
        found.setdefault(row["item_id"], {})[row["kind"]] = Likelihood(row["log_likelihood"], row["tokens"])
    return found


def _scores(view: View, modules: list[ModuleType], arm: str, seed: int) -> list[Score]:
    item = view.item
    return [
        Score(
            item_id=item.id,
            arm=arm,
            seed=seed,
            persona=item.persona,
            stage=item.stage,
            cluster=item.material_id,
            metric=metric,
            value=None if value is None else round(value, 6),
        )
        for module in modules
        for metric, value in module.compute(view).items()
    ]
