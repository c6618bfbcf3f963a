"""Batched generation: sorted by length, padded on the left, deterministic under a seed, streamed to disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


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


def generate_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    config: dict[str, Any],
    seed: int,
) -> list[Reply]:
    """Generate one reply per prompt.

    Args:
        model: base or tuned model.
        tokenizer: its tokenizer.
        prompts: token ids, up to where the assistant speaks.
        config: the generate section (max_new_tokens, temperature, top_p).
        seed: fixes sampling, where the temperature is above 0.
    """
    width = max(map(len, prompts))
    pad = int(tokenizer.pad_token_id)  # type: ignore[arg-type]
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if config["temperature"] > 0:
        sampling = {"do_sample": True, "temperature": config["temperature"], "top_p": config["top_p"], "top_k": 0}
    torch.manual_seed(seed)
    began = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(  # type: ignore[operator]
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=config["max_new_tokens"],
            pad_token_id=pad,
            **sampling,
        )
    seconds = (time.perf_counter() - began) / len(prompts)
    stops = {int(i) for i in _ids(model.generation_config.eos_token_id) + _ids(tokenizer.eos_token_id)}
    return [_reply(tokenizer, row, stops, seconds) for row in out[:, width:].tolist()]


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
    for number, batch in enumerate(plan_batches([len(p) for p in prompts], config["batch_size"])):
        if not done.issuperset(batch):
            yield batch, generate_batch(model, tokenizer, [prompts[i] for i in batch], config, seed * 100_003 + number)
        progress(len(batch))
