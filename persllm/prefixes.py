"""What many prompts begin with is read once, and kept once: where that is possible, and how rows read on behind it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import eager_mask

from persllm.errors import UserError

WORTH = 32
"""Tokens that prompts must share before their sharing is used: reading fewer once costs a pass and saves little."""

_SCORES = 2**24
"""Attention scores held at once, at most, where one row has no more: 64 MiB."""

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [rows, heads, tokens, size]."""


def common(rows: Sequence[list[int]]) -> int:
    """Return how many tokens all rows begin with."""
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def shareable(net: Any) -> bool:
    """Return whether a prefix's keys and values say all that the model keeps of it, whoever reads on.

    So it is where every layer attends to everything before it and takes positions as they are given: not with sliding
    windows, recurrent states or other caches than transformers' plain one, nor with distances added to the attention
    (ALiBi), nor with other attention than torch's own.

    Args:
        net: a transformers model, taken out of PEFT.
    """
    config = net.config.get_text_config(decoder=True)
    layers = DynamicCache(config=config).layers
    return (
        all(type(layer) is DynamicLayer for layer in layers)
        and not getattr(net, "_is_stateful", False)
        and not getattr(config, "alibi", False)
        and not getattr(config, "attn_logit_softcapping", None)
        and config._attn_implementation in ("sdpa", "eager")
        and net._supports_attention_backend
        and "position_ids" in inspect.signature(net.get_decoder().forward).parameters
    )


def read(net: Any, ids: list[int]) -> Layers:
    """Return what the model keeps of a prefix, one row; nothing of no tokens."""
    if not ids:
        return []
    cache = DynamicCache()
    net.get_decoder()(input_ids=torch.tensor([ids], device=net.device), past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[misc]


def copy(layers: Layers) -> DynamicCache:
    """Return a cache of one row that begins with a prefix, which itself stays as it is."""
    made = DynamicCache()
    for number, (keys, values) in enumerate(layers):
        made.update(keys, values, number)
    return made


class _Behind(DynamicLayer):
    """One layer's keys and values of rows behind a prefix that is not among them."""

    def __init__(self, prefix: int, room: int) -> None:
        super().__init__()
        self.prefix, self.room, self.used = prefix, room, 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write into what was laid out for all tokens at first: nothing is copied to grow."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            rows, heads = key_states.shape[:2]
            self.keys = key_states.new_empty(rows, heads, self.room, key_states.shape[-1])
            self.values = value_states.new_empty(rows, heads, self.room, value_states.shape[-1])
            self.is_initialized = True
        assert self.keys is not None
        assert self.values is not None
        end = self.used + key_states.shape[2]
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.prefix + self.used

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.used + query_length, self.prefix


_NAME = "shared_prefix"
_SAID = frozenset({"position_ids", "cache_position", "use_cache", "is_causal", "output_attentions"})
"""What models hand on to attention besides, which keys and mask already say or which only asks for more output."""
_current: Layers = []


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend to the prefix, all rows' queries in one product, and to each row's own tokens (arXiv 2402.05099).

    Raises:
        UserError: the model asks for more than plain attention (sinks, windows, soft caps, dropout).
    """
    for name, wanted in others.items():
        if name not in _SAID and (isinstance(wanted, Tensor) or wanted):
            raise UserError(
                f"model.path: {type(module).__name__} asks attention for {name}, without which a prompt cannot be read "
                "behind what others begin with too; take another model, or generate.batch_size=1"
            )
    heads, length, size = query.shape[1:]
    before, scale = _current[module.layer_idx], size**-0.5 if scaling is None else scaling
    few = max(1, _SCORES // (heads * length * (before[0].shape[2] + key.shape[2])))
    parts = zip(*(part.split(few) for part in (query * scale, key, value, attention_mask)), strict=True)
    return torch.cat([_few(*part, *before) for part in parts]), None


def _few(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return [rows, length, heads, size] for queries [rows, heads, length, size] and a prefix of one row."""
    rows, heads, length, size = query.shape
    groups, prefix = key.shape[1], keys.shape[2]
    folded = query.reshape(rows, groups, -1, size)
    every = folded.transpose(0, 1).reshape(groups, -1, size)
    far = (every @ keys[0].mT).view(groups, rows, -1, prefix).transpose(0, 1)
    near = (folded @ key.mT).view(rows, groups, -1, length, key.shape[2]) + mask[:, :, None]
    scores = torch.cat([far, near.view(rows, groups, -1, key.shape[2])], -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    far = weights[..., :prefix].transpose(0, 1).reshape(groups, -1, prefix) @ values[0]
    out = far.view(groups, rows, -1, value.shape[-1]).transpose(0, 1) + weights[..., prefix:] @ value
    return out.reshape(rows, heads, length, -1).transpose(1, 2).contiguous()


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, eager_mask)


@contextlib.contextmanager
def behind(net: Any, layers: Layers, room: int) -> Iterator[DynamicCache]:
    """Give a cache in which any number of rows read on behind a prefix that is kept once, for one generation.

    Args:
        net: a transformers model, taken out of PEFT; ``shareable``.
        layers: the prefix.
        room: tokens that a row may read behind it, at most.
    """
    global _current
    length = layers[0][0].shape[2]
    cache, own = DynamicCache(), net.config._attn_implementation
    cache.layers[:] = [_Behind(length, room) for _ in layers]
    _current = layers
    net.set_attn_implementation(_NAME)
    try:
        yield cache
    finally:
        net.set_attn_implementation(own)
        _current = []
