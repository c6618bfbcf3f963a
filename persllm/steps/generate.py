"""Step generate: every held-out question answered by one arm."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from persllm import records
from persllm.decoding import Reply, plan_alike
from persllm.execute import Context
from persllm.language_model import load_base, load_tokenizer, load_tuned, model_source
from persllm.progress import bar
from persllm.prompting import Message
from persllm.records import Generation, Item
from persllm.speaking import Asked, Prompt, Speaker
from persllm.steering import attach
from persllm.steps import split, steer
from persllm.steps.split import prompt_source
from persllm.store import read_json


def voices(inputs: Iterable[str], stages: list[str]) -> list[list[str]]:
    """Return the stages that speak with the same weights, together: each alone where tuned or steered apart."""
    apart = any(role.startswith("train_") or role == "steer" for role in inputs)
    return [[stage] for stage in stages] if apart else [stages]


def load_arm(ctx: Context, stage: str) -> tuple[Any, Any]:
    """Load the model an arm speaks with at a stage, and its tokenizer: the base, perhaps steered, or what was tuned."""
    source = model_source(ctx.local["model_path"], ctx.outputs)
    config = ctx.config["model"]
    trained = ctx.inputs.get(f"train_{stage}", ctx.inputs.get("train"))
    if trained is not None:
        return load_tuned(trained, source, config)
    model = load_base(source, config["dtype"], config["revision"])
    if "steer" in ctx.inputs:
        attach(model, *steer.read(ctx.inputs["steer"], stage))
    return model, load_tokenizer(source, config["revision"])


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return what an earlier attempt streamed, by item; a torn last line is dropped."""
    found = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            row = json.loads(line)
            found[row["item_id"]] = row
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return found


def answers(
    speaker: Speaker, items: list[Item], done: set[int], progress: Callable[[int], None]
) -> Iterator[tuple[list[int], list[tuple[dict[str, Any], Generation]]]]:
    """Yield each batch's item indices, with each item's prompt and reply; skip batches whose indices are all ``done``.

    A batch is always made of the same items and has its own seed, so that a resumed run repeats an undisturbed one.
    """
    config = speaker.config
    first = [speaker.prompt(item.stage, item.question).ids for item in items]
    for number, batch in enumerate(plan_alike(first, config["generate"]["batch_size"])):
        if not done.issuperset(batch):
            own, seed = [items[index] for index in batch], config["seed"] * 100_003 + number
            prompts = speaker.compose([Asked(item.stage, item.question, []) for item in own], seed)
            replies = speaker.speak([prompt.ids for prompt in prompts], seed)
            yield batch, [_made(speaker, *one) for one in zip(own, prompts, replies, strict=True)]
        progress(len(batch))


def run(ctx: Context) -> None:
    """Write ``generations.jsonl`` and ``prompts.jsonl`` (of each item's reply: messages and token ids)."""
    config = ctx.config
    items = split.read(ctx.inputs["split"], "test")
    source = prompt_source(ctx)
    paths = [ctx.work / "prompts.jsonl", ctx.work / "generations.jsonl"]
    prompts, earlier = (_rows(path) for path in paths)
    made = {name: Generation(**row) for name, row in earlier.items() if name in prompts}
    with bar(len(items), f"{config['arm']} replies") as progress, contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("a", encoding="utf-8")) for path in paths]
        for file in files:
            file.write("\n")
        for stages in voices(ctx.inputs, list(source.card.stages)):
            speaker = None  # Freed before the next stage's weights are loaded.
            speaker = Speaker(*load_arm(ctx, stages[0]), source, config)
            own = [item for item in items if item.stage in stages]
            done = {i for i, item in enumerate(own) if item.id in made}
            for _, rows in answers(speaker, own, done, progress):
                for prompt, one in rows:
                    prompts[one.item_id], made[one.item_id] = prompt, one
                    files[0].write(records.to_line(prompt))
                    files[1].write(records.to_line(one))
                for file in files:
                    file.flush()
                ctx.check_stop()
    records.write(ctx.out / "generations.jsonl", [made[item.id] for item in items])
    records.write(ctx.out / "prompts.jsonl", [prompts[item.id] for item in items])
    missing = sum(one.response is None for one in made.values())
    ctx.log(replies=len(items), missing=missing)
    ctx.say(f"{len(items)} replies, {missing} without a response")


def _made(speaker: Speaker, item: Item, prompt: Prompt, reply: Reply) -> tuple[dict[str, Any], Generation]:
    analysis, response = speaker.parse(reply.text)
    one = Generation(
        item_id=item.id,
        arm=speaker.config["arm"],
        seed=speaker.config["seed"],
        persona=item.persona,
        stage=item.stage,
        prompt_tokens=prompt.prompt_tokens,
        text=reply.text,
        analysis=analysis,
        response=response,
        finish_reason=reply.finish_reason if response is not None else "no_response",
        tokens=prompt.tokens + reply.tokens,
        seconds=round(prompt.seconds + reply.seconds, 4),
    )
    return {"item_id": item.id, "messages": prompt.messages, "ids": prompt.ids}, one


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
