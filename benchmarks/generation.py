"""Greedy replies to the study's prompts: this project's sorted batches against plain ``model.generate``."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.measure import Round, Side, clock
from benchmarks.workload import Workload
from persllm.decoding import generate_all
from persllm.language_model import load_base

SIZE = 8
"""Prompts at a time, on either side; the study's own size is larger, and its prompts more alike."""


class Ours:
    """``persllm.decoding.generate_all``, which sorts the prompts by length first."""

    def __init__(self, model: Any, work: Workload, prompts: list[list[int]], new_tokens: int, size: int = SIZE) -> None:
        self.name = f"persllm, {size} sorted"
        self.model, self.tokenizer, self.prompts = model, work.tokenizer, prompts
        self.config = work.generate | {"max_new_tokens": new_tokens, "temperature": 0.0, "batch_size": size}

    def run(self) -> Round:
        """Answer all prompts."""
        began = clock()
        replies: dict[int, Any] = {}
        for batch, made in generate_all(
            self.model, self.tokenizer, self.prompts, self.config, 0, set(), lambda _: None
        ):
            replies |= zip(batch, made, strict=True)
        seconds = clock() - began
        ordered = [replies[index] for index in range(len(self.prompts))]
        return Round(seconds, tokens=sum(reply.tokens for reply in ordered), texts=[reply.text for reply in ordered])


class Plain:
    """``model.generate`` on prompts in the order in which they come, ``size`` at a time."""

    def __init__(self, model: Any, work: Workload, prompts: list[list[int]], new_tokens: int, size: int) -> None:
        self.name = f"generate, {size} at a time"
        self.model, self.tokenizer, self.prompts = model, work.tokenizer, prompts
        self.new_tokens, self.size = new_tokens, size

    def _batch(self, prompts: list[list[int]]) -> list[list[int]]:
        batch = self.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(
                **batch.to(self.model.device),
                max_new_tokens=self.new_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return out[:, batch["input_ids"].shape[1] :].tolist()

    def run(self) -> Round:
        """Answer all prompts."""
        done = Round()
        began = clock()
        for start in range(0, len(self.prompts), self.size):
            for row in self._batch(self.prompts[start : start + self.size]):
                end = row.index(self.tokenizer.eos_token_id) if self.tokenizer.eos_token_id in row else len(row)
                done.tokens += end
                done.texts.append(self.tokenizer.decode(row[:end], skip_special_tokens=True).strip())
        done.seconds = clock() - began
        return done


def sides(work: Workload, prompts: list[list[int]], new_tokens: int) -> list[Side]:
    """Return ours, one at a time, and as many at a time as ours, on one model."""
    model = load_base(work.source, work.model["dtype"], work.model["revision"])
    return [
        Ours(model, work, prompts, new_tokens),
        Plain(model, work, prompts, new_tokens, 1),
        Plain(model, work, prompts, new_tokens, SIZE),
    ]


def share_equal(one: list[str], other: list[str]) -> float:
    """Return the share of texts that are the same."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
