"""Log-likelihoods of given answers after a prompt that is computed once."""

from __future__ import annotations

from typing import Any

import torch

from persllm.training.adapters import inner


def log_likelihoods(model: Any, prefix: list[int], options: list[list[int]]) -> list[float]:
    """Return the summed log-probability of each option's tokens after the prefix, in nats.

    Args:
        model: base or tuned model.
        prefix: token ids of the prompt (and of the arm's own analysis, where it analyses first); at least one.
        options: token ids; at least one each.
    """
    net = inner(model)
    width = max(map(len, options))
    ids = torch.zeros(len(options), width, dtype=torch.long)
    real = torch.zeros_like(ids)
    for row, option in enumerate(options):
        ids[row, : len(option)] = torch.tensor(option)
        real[row, : len(option)] = 1
    ids, real = ids.to(net.device), real.to(net.device)
    with torch.inference_mode():
        start = net.get_decoder()(input_ids=torch.tensor([prefix], device=net.device), use_cache=True)  # type: ignore[operator]
        cache = start.past_key_values
        cache.batch_repeat_interleave(len(options))
        mask = torch.cat([torch.ones(len(options), len(prefix), dtype=torch.long, device=net.device), real], 1)
        rest = net.get_decoder()(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)  # type: ignore[operator]
        last = start.last_hidden_state[:, -1:].expand(len(options), -1, -1)
        hidden = torch.cat([last, rest.last_hidden_state[:, :-1]], 1)
        rows, columns = real.nonzero(as_tuple=True)
        logits = net.get_output_embeddings()(hidden[rows, columns]).float()  # type: ignore[misc]
        values = -torch.nn.functional.cross_entropy(logits, ids[rows, columns], reduction="none")
        return torch.zeros(len(options), device=net.device).index_add(0, rows, values).tolist()
