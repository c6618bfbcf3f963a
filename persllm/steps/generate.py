"""Step generate: every held-out question answered by one arm."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from persllm import records
from persllm.answer import parse
from persllm.decoding import generate_all
from persllm.errors import UserError
from persllm.execute import Context
from persllm.language_model import chat_ids, load_base, load_tokenizer, load_tuned, model_source
from persllm.progress import bar
from persllm.prompting import Message, Source, build
from persllm.records import Generation, Item
from persllm.steps import materials, split
from persllm.store import read_json


def voices(inputs: Iterable[str], stages: list[str]) -> list[list[str]]:
    """Return the stages that speak with the same weights, together: each alone where it was tuned apart."""
    return [[stage] for stage in stages] if any(role.startswith("train_") for role in inputs) else [stages]


def load_arm(ctx: Context, stage: str) -> tuple[Any, Any]:
    """Load the model an arm speaks with at a stage, and its tokenizer: the base, or what its train step saved."""
    source = model_source(ctx.local["model_path"], ctx.outputs)
    config = ctx.config["model"]
    trained = ctx.inputs.get(f"train_{stage}", ctx.inputs.get("train"))
    if trained is not None:
        return load_tuned(trained, source, config)
    return load_base(source, config["dtype"], config["revision"]), load_tokenizer(source, config["revision"])


def prompt_source(ctx: Context) -> Source:
    """Return what this arm's prompts are built from: never a held-out item.

    Nor, unless the arm is open-book, a paragraph that a held-out item was written from: no tuned arm saw it, and a
    store that holds it holds the answer.
    """
    card, paragraphs = materials.read(ctx.inputs["materials"])
    if not ctx.config["prompt"]["open_book"]:
        paragraphs = split.unheld(ctx.inputs["split"], paragraphs)
    label = (ctx.config["tune"] or {}).get("temporal_label", "text")
    examples = split.read(ctx.inputs["split"], "train")
    return Source(card, ctx.config["prompt"] | {"temporal_label": label}, paragraphs, examples)


def _resume(path: Path) -> dict[str, Generation]:
    """Return what an earlier attempt streamed; a torn last line is dropped."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            made = Generation(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        found[made.item_id] = made
    return found


def run(ctx: Context) -> None:
    """Write ``generations.jsonl`` and ``prompts.jsonl`` (each item's messages and token ids)."""
    config = ctx.config
    items = split.read(ctx.inputs["split"], "test")
    source = prompt_source(ctx)
    stream = ctx.work / "generations.jsonl"
    made = _resume(stream)
    prompts: dict[str, dict[str, Any]] = {}
    with bar(len(items), f"{config['arm']} replies") as progress, stream.open("a", encoding="utf-8") as file:
        file.write("\n")
        for stages in voices(ctx.inputs, list(source.card.stages)):
            model = None  # Freed before the next stage's weights are loaded.
            model, tokenizer = load_arm(ctx, stages[0])
            own = [item for item in items if item.stage in stages]
            prompts |= {item.id: _prompt(tokenizer, source, item, config) for item in own}
            ids = [prompts[item.id]["ids"] for item in own]
            done = {i for i, item in enumerate(own) if item.id in made}
            for batch, replies in generate_all(
                model, tokenizer, ids, config["generate"], config["seed"], done, progress
            ):
                for index, reply in zip(batch, replies, strict=True):
                    made[own[index].id] = one = _generation(config, own[index], len(ids[index]), reply)
                    file.write(records.to_line(one))
                file.flush()
                ctx.check_stop()
    records.write(ctx.out / "generations.jsonl", [made[item.id] for item in items])
    records.write(ctx.out / "prompts.jsonl", [prompts[item.id] for item in items])
    missing = sum(one.response is None for one in made.values())
    ctx.log(replies=len(items), missing=missing)
    ctx.say(f"{len(items)} replies, {missing} without a response")


def _prompt(tokenizer: Any, source: Source, item: Item, config: dict[str, Any]) -> dict[str, Any]:
    messages = build(source, item.stage, item.question)
    ids = chat_ids(tokenizer, messages)
    room = config["model"]["max_length"] - config["generate"]["max_new_tokens"]
    if len(ids) > room:
        raise UserError(
            f"a prompt of {config['arm']} has {len(ids)} tokens; model.max_length minus generate.max_new_tokens leaves "
            f"{room}: raise model.max_length, or lower method.prompt's shots or words"
        )
    return {"item_id": item.id, "messages": messages, "ids": ids}


def _generation(config: dict[str, Any], item: Item, prompt_tokens: int, reply: Any) -> Generation:
    analysis, response = parse(reply.text, bool(config["tune"] and config["tune"]["analysis"]))
    return Generation(
        item_id=item.id,
        arm=config["arm"],
        seed=config["seed"],
        persona=item.persona,
        stage=item.stage,
        prompt_tokens=prompt_tokens,
        text=reply.text,
        analysis=analysis,
        response=response,
        finish_reason=reply.finish_reason if response is not None else "no_response",
        tokens=reply.tokens,
        seconds=round(reply.seconds, 4),
    )


def read(artifacts: Path) -> list[Generation]:
    """Read what this step wrote."""
    return records.read(Generation, artifacts / "generations.jsonl")


def read_prompts(artifacts: Path) -> dict[str, tuple[list[Message], list[int]]]:
    """Read each item's messages and prompt token ids."""
    rows = [row for _, row in records.read_json_lines(artifacts / "prompts.jsonl")]
    return {row["item_id"]: (row["messages"], row["ids"]) for row in rows}


def step_config(artifacts: Path) -> dict[str, Any]:
    """Return the semantic config of the step whose artifacts these are."""
    return read_json(artifacts.parent / "config.json")["config"]
