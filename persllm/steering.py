"""Residual activations of a decoder's layers: their means over answers, and a direction added to one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from persllm.errors import UserError
from persllm.training.adapters import inner
from persllm.training.batch import Batch


def decoder_layers(model: Any) -> Any:
    """Return the decoder's layers, each of which adds to one residual stream.

    Raises:
        UserError: the architecture keeps them elsewhere.
    """
    layers = getattr(inner(model).get_decoder(), "layers", None)
    if layers is None:
        raise UserError(
            f"method.steer: {type(inner(model)).__name__} has no list of decoder layers; take another model"
        )
    return layers


def _stream(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def attach(model: Any, layer: int, direction: Tensor) -> RemovableHandle:
    """Add a direction to what a layer leaves in the residual stream, at every position, until the handle is removed.

    Args:
        model: base or tuned model.
        layer: behind which of its layers, from 1.
        direction: [hidden], of any type.
    """
    where = decoder_layers(model)[layer - 1]
    weights = next(where.parameters())
    added = direction.to(weights.device, weights.dtype)

    def add(_module: Any, _args: Any, output: Any) -> Any:
        return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added

    return where.register_forward_hook(add)


@contextlib.contextmanager
def steered(model: Any, layer: int, direction: Tensor) -> Iterator[None]:
    """Steer a model meanwhile; see ``attach``."""
    handle = attach(model, layer, direction)
    try:
        yield
    finally:
        handle.remove()


def answer_means(model: Any, batch: Batch, layers: list[int]) -> Tensor:
    """Return each row's mean residual activation over its answer's tokens, behind some layers.

    Args:
        model: base or tuned model.
        batch: rows of prompt and answer; the answer's tokens are those with loss.
        layers: from 1.

    Returns:
        ``[rows, len(layers), hidden]`` in float32, on the CPU.
    """
    found: dict[int, Tensor] = {}
    mask = batch.loss_mask.unsqueeze(-1)

    def keep(layer: int) -> RemovableHandle:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            found[layer] = (_stream(output).float() * mask).sum(1) / mask.sum(1)

        return decoder_layers(model)[layer - 1].register_forward_hook(hook)

    handles = [keep(layer) for layer in layers]
    try:
        with torch.inference_mode():
            decoder: Any = inner(model).get_decoder()
            decoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([found[layer] for layer in layers], 1).cpu()
