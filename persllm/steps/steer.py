"""Step steer: for each life stage a direction in the model's activations that leads to the stage's own answers.

After persona vectors (arXiv 2507.21509): a trait's vector is the mean difference of residual activations, over the
tokens of the responses, between responses that show the trait under a prompt that asks for it and responses that do
not under a prompt that asks for the opposite. What is chosen here, and why:

- The responses that show a persona at a stage are its own recorded training answers, under the profile prompt; the
  others are the base model's answers to the same questions under the generic prompt. There the model writes both kinds
  and a judge keeps those that show the trait; a small model writes no answers in character that were worth keeping.
- The difference is not scaled: the coefficient 1 moves the generic answers' mean to the recorded ones' mean.
- Layer and coefficient are chosen, one of each for all stages, by the recorded answers' log-likelihood (nats a token)
  on the development items under the arm's own prompt. No steering at all is measured beside them and not chosen: an arm
  that steers steers, for better or worse.
- The direction is added at every position, the prompt's too, where the paper adds it at those of the response. So the
  steered model is one function of its tokens, and numbers do not depend on what was read in which pass.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from persllm import records
from persllm.decoding import generate_all
from persllm.errors import UserError
from persllm.execute import Context
from persllm.language_model import chat_ids, device, load_base, load_tokenizer, model_source, text_ids
from persllm.progress import bar
from persllm.prompting import GENERIC, Message, Source, build, profile
from persllm.records import Item
from persllm.steering import answer_means, decoder_layers, steered
from persllm.steps import split
from persllm.store import read_json, write_json
from persllm.training.batch import Sequence, collate, completion_log_probs, row_sums

BATCH = 8
"""Sequences read or written together."""


def run(ctx: Context) -> None:
    """Write ``vector.safetensors`` (each stage's direction) and ``choice.json`` (the layer and coefficient)."""
    began, config = time.perf_counter(), ctx.config
    source, steer = split.prompt_source(ctx), config["steer"]
    where = model_source(ctx.local["model_path"], ctx.outputs)
    model = load_base(where, config["model"]["dtype"], config["model"]["revision"])
    tokenizer = load_tokenizer(where, config["model"]["revision"])
    layers = candidates(len(decoder_layers(model)), steer["layer"])
    items = {stage: few(source.examples, stage, steer["items"]) for stage in source.card.stages}
    told = _generic(ctx, model, tokenizer, [item for some in items.values() for item in some])
    found: dict[str, Tensor] = {}
    for stage, some in items.items():
        kept = [item for item in some if told[item.id]]
        if not kept:
            raise UserError(f"steer: stage {stage!r} of {source.card.name} has no training item with a generic answer")
        found[stage] = _direction(ctx, model, tokenizer, source, kept, told, layers)
    held = _held(ctx, tokenizer, source)
    plain = _mean(_likelihood(ctx, model, tokenizer, [one for some in held.values() for one in some]))
    tried = _try(ctx, model, tokenizer, found, layers, held)
    best = max(tried, key=lambda one: one["log_likelihood"])
    place = layers.index(best["layer"])
    save_file({stage: rows[place].contiguous() for stage, rows in found.items()}, ctx.out / "vector.safetensors")
    used = {stage: sum(bool(told[item.id]) for item in some) for stage, some in items.items()}
    beside = {"unsteered": round(plain, 5), "items": used, "dev": sum(map(len, held.values()))}
    write_json(ctx.out / "choice.json", best | beside | {"tried": tried})
    ctx.cost["steer_seconds"] = round(time.perf_counter() - began, 3)
    ctx.log(**best, unsteered=beside["unsteered"], dev=beside["dev"])
    ctx.say(
        f"layer {best['layer']}, coefficient {best['coefficient']:g}: {best['log_likelihood']:.4f} nats a token on "
        f"{beside['dev']} development items, {plain:.4f} unsteered; directions of {used} training items"
    )


def _try(
    ctx: Context,
    model: Any,
    tokenizer: Any,
    directions: dict[str, Tensor],
    layers: list[int],
    held: dict[str, list[Sequence]],
) -> list[dict[str, Any]]:
    """Return what every layer with every coefficient makes of the development items, on average."""
    tried = []
    for number, layer in enumerate(layers):
        for coefficient in ctx.config["steer"]["coefficients"]:
            values: list[float] = []
            for stage, sequences in held.items():
                with steered(model, layer, coefficient * directions[stage][number]):
                    values += _likelihood(ctx, model, tokenizer, sequences)
            tried.append({"layer": layer, "coefficient": coefficient, "log_likelihood": round(_mean(values), 5)})
    return tried


def _held(ctx: Context, tokenizer: Any, source: Source) -> dict[str, list[Sequence]]:
    """Return the development items under the arm's own prompt, by stage."""
    found: dict[str, list[Sequence]] = {}
    for item in split.read(ctx.inputs["split"], "dev"):
        messages = build(source, item.stage, item.question)
        found.setdefault(item.stage, []).append(_sequence(tokenizer, messages, item.response))
    return found


def candidates(depth: int, layer: int | None) -> list[int]:
    """Return the layers to try, from 1.

    Raises:
        UserError: the layer that is asked for is none of the model's.
    """
    if layer is not None and layer > depth:
        raise UserError(f"method.steer.layer is {layer}; expected at most {depth}, as many as the model has")
    return [layer] if layer else sorted({max(1, round(depth * part / 4)) for part in (1, 2, 3)})


def few(items: list[Item], stage: str, most: int) -> list[Item]:
    """Return at most so many of a stage's items, always the same ones, in the order of a hash."""
    own = [item for item in items if item.stage == stage]
    return sorted(own, key=lambda item: hashlib.sha256(item.id.encode()).digest())[:most]


def read(artifacts: Path, stage: str) -> tuple[int, Tensor]:
    """Return the layer, and what is added behind it at a stage: coefficient times direction, [hidden]."""
    choice = read_json(artifacts / "choice.json")
    return choice["layer"], choice["coefficient"] * load_file(artifacts / "vector.safetensors")[stage]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _sequence(tokenizer: Any, messages: list[Message], answer: str) -> Sequence:
    return Sequence(chat_ids(tokenizer, messages), text_ids(tokenizer, answer))


def _generic_prompt(item: Item) -> list[Message]:
    return [{"role": "system", "content": GENERIC}, {"role": "user", "content": item.question}]


def _generic(ctx: Context, model: Any, tokenizer: Any, items: list[Item]) -> dict[str, str]:
    """Return the base model's own answers by item id, streamed so that an interrupted step keeps them."""
    path = ctx.work / "generic.jsonl"
    made: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            row = json.loads(line)
            made[row["item_id"]] = row["text"]
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    prompts = [chat_ids(tokenizer, _generic_prompt(item)) for item in items]
    decoding = {"max_new_tokens": ctx.config["steer"]["max_new_tokens"], "temperature": 0.0, "batch_size": BATCH}
    done = {place for place, item in enumerate(items) if item.id in made}
    with bar(len(items), "generic answers") as progress, path.open("a", encoding="utf-8") as file:
        file.write("\n")
        for batch, replies in generate_all(model, tokenizer, prompts, decoding, 0, done, progress):
            for place, reply in zip(batch, replies, strict=True):
                made[items[place].id] = reply.text
                file.write(records.to_line({"item_id": items[place].id, "text": reply.text}))
            file.flush()
            ctx.check_stop()
    return made


def _direction(
    ctx: Context,
    model: Any,
    tokenizer: Any,
    source: Source,
    items: list[Item],
    generic: dict[str, str],
    layers: list[int],
) -> Tensor:
    """Return the mean difference of activations between recorded and generic answers, [len(layers), hidden]."""
    own = [_sequence(tokenizer, profile.build(source, i.stage, i.question), i.response) for i in items]
    other = [_sequence(tokenizer, _generic_prompt(item), generic[item.id]) for item in items]
    means = []
    for sequences in (own, other):
        rows = []
        for start in range(0, len(sequences), BATCH):
            batch = collate(sequences[start : start + BATCH], int(tokenizer.pad_token_id), 1).to(device())
            rows.append(answer_means(model, batch, layers))
            ctx.check_stop()
        means.append(torch.cat(rows).mean(0))
    return means[0] - means[1]


def _likelihood(ctx: Context, model: Any, tokenizer: Any, sequences: list[Sequence]) -> list[float]:
    """Return each answer's log-probability, in nats a token."""
    found: list[float] = []
    for start in range(0, len(sequences), BATCH):
        few = sequences[start : start + BATCH]
        with torch.inference_mode():
            values, rows = completion_log_probs(model, collate(few, int(tokenizer.pad_token_id), 1).to(device()))
        sums = row_sums(values, rows, len(few)).tolist()
        found += [total / len(one.completion) for total, one in zip(sums, few, strict=True)]
        ctx.check_stop()
    return found
