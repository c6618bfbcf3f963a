"""Batched generation: prompts that begin alike together, deterministic under a seed, streamed to disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from persllm import prefixes
from persllm.training.adapters import inner


@dataclass(frozen=True)
class Reply:
    """One generated text, with its share of the batch's seconds."""

    text: str
    tokens: int
    finish_reason: str
    """``stop`` or ``length``."""
    seconds: float


def plan_batches(lengths: list[int], size: int) -> list[list[int]]:
    """Return batches of prompt indices, longest prompts first, so that a batch too large fails at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def plan_alike(prompts: list[list[int]], size: int) -> list[list[int]]:
    """Return batches as ``plan_batches`` does, of prompts that begin alike, as an arm's at one stage of life do.

    For what all prompts of a batch begin with is read once.
    """
    batches = []
    for group in _alike(prompts):
        planned = plan_batches([len(prompts[i]) for i in group], size)
        batches += [[group[place] for place in batch] for batch in planned]
    return sorted(batches, key=lambda batch: (-len(prompts[batch[0]]), batch[0]))


def _alike(prompts: list[list[int]]) -> list[list[int]]:
    """Part prompts where neighbours in order of their tokens share less than half of what most neighbours share."""
    order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    shared = [prefixes.common([prompts[a], prompts[b]]) for a, b in pairwise(order)]
    usual = sorted(shared)[len(shared) // 2] if shared else 0
    if usual < prefixes.WORTH:
        return [list(range(len(prompts)))]
    groups = [order[:1]]
    for index, count in zip(order[1:], shared, strict=True):
        if count < usual / 2:
            groups.append([])
        groups[-1].append(index)
    return [sorted(group) for group in groups]


def generate_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    config: dict[str, Any],
    seed: int,
) -> list[Reply]:
    """Generate one reply per prompt.

    Of the model's own ``generation_config`` only its end-of-text tokens count: penalties, bans and the like that a
    model's folder brings along stand in no config of ours.

    What all prompts begin with, where that is ``prefixes.WORTH`` tokens or more, is read once and kept once, however
    many rows: memory grows with the rows' own ends and replies only. Greedy replies in float32 are those of whole
    prompts; in bfloat16 rounding differs, and with it a token where two are nearly as likely. Models of which
    ``prefixes.shareable`` is false read every prompt whole.

    Args:
        model: base or tuned model.
        tokenizer: its tokenizer.
        prompts: token ids, up to where the assistant speaks.
        config: the generate section (max_new_tokens, temperature, top_p).
        seed: fixes sampling, where the temperature is above 0.
    """
    net, pad = inner(model), int(tokenizer.pad_token_id)  # type: ignore[arg-type]
    # The last token of each prompt is read with its reply, for it predicts the first token.
    shared = min(prefixes.common(prompts), min(map(len, prompts)) - 1)
    if len(prompts) == 1 or shared < prefixes.WORTH or not prefixes.shareable(net):
        shared = 0
    ids, mask = _padded(prompts, shared, pad)
    stops = sorted({int(i) for i in _ids(net.generation_config.eos_token_id) + _ids(tokenizer.eos_token_id)})  # type: ignore[union-attr]
    own = {"max_new_tokens": config["max_new_tokens"], "pad_token_id": pad, "eos_token_id": stops or None}
    if config["temperature"] > 0:
        own |= {"do_sample": True, "temperature": config["temperature"], "top_p": config["top_p"], "top_k": 0}
    kept: dict[str, Any] = {}
    torch.manual_seed(seed)
    began = time.perf_counter()
    with torch.inference_mode(), contextlib.ExitStack() as stack:
        stack.enter_context(_inheriting_nothing(net))
        if shared:
            room = ids.shape[1] - shared + config["max_new_tokens"]
            layers = prefixes.read(net, prompts[0][:shared])
            kept["past_key_values"] = stack.enter_context(prefixes.behind(net, layers, room))
        out = model.generate(  # type: ignore[operator]
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(**own),
            **kept,
        )
    seconds = (time.perf_counter() - began) / len(prompts)
    return [_reply(tokenizer, row, set(stops), seconds) for row in out[:, ids.shape[1] :].tolist()]


@contextlib.contextmanager
def _inheriting_nothing(net: PreTrainedModel) -> Iterator[None]:
    """Set the model's own ``generation_config`` aside: transformers fills from it whatever a call leaves unsaid."""
    aside, net.generation_config = net.generation_config, GenerationConfig()
    try:
        yield
    finally:
        net.generation_config = aside


def _padded(prompts: list[list[int]], shared: int, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, [rows, tokens]: what is shared, padding, and the rest, which ends in the last column."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        for tokens, end in ((prompt[:shared], shared), (prompt[shared:], width)):
            ids[row, end - len(tokens) : end] = torch.tensor(tokens, dtype=torch.long)
            mask[row, end - len(tokens) : end] = 1
    return ids, mask


def _ids(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _reply(tokenizer: PreTrainedTokenizerBase, row: list[int], stops: set[int], seconds: float) -> Reply:
    end = next((i for i, token in enumerate(row) if token in stops), len(row))
    text = str(tokenizer.decode(row[:end], skip_special_tokens=True))
    return Reply(text.strip(), end, "stop" if end < len(row) else "length", seconds)


def generate_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    config: dict[str, Any],
    seed: int,
    done: set[int],
    progress: Callable[[int], None],
) -> Iterator[tuple[list[int], list[Reply]]]:
    """Yield each batch's prompt indices and replies, skipping the batches whose indices are all in ``done``.

    A batch is always made of the same prompts and has its own seed, so that a resumed run repeats an undisturbed one.
    """
    for number, batch in enumerate(plan_alike(prompts, config["batch_size"])):
        if not done.issuperset(batch):
            yield batch, generate_batch(model, tokenizer, [prompts[i] for i in batch], config, seed * 100_003 + number)
        progress(len(batch))
