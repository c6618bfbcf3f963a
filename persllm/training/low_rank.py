"""A LoRA linear layer as one autograd function.

PEFT's own forward scales and adds the adapter's output in passes over the whole activation, three of them a layer and
as many backward. Here the scale sits on the small matrix and the additions inside the matrix products; with attention
as plain matrix products (``fuse``), a step of a small model on two cores takes about two thirds of the time.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor

_SHORT = 512
"""Up to this many tokens a CPU computes attention faster as matrix products than by the flash kernel's backward."""


class LowRankLinear(torch.autograd.Function):
    """``x W' + scale x A' B'`` for a frozen W [out, in] and trained A [rank, in], B [out, rank] (arXiv 2106.09685)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        """Return [..., out]; ``down`` and ``up`` are rounded to the type of ``weight`` for the products."""
        flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        trained = down.dtype
        down, up = down.to(weight.dtype), (up * scale).to(weight.dtype)
        low = flat @ down.T
        ctx.save_for_backward(flat, weight, down, up, low)
        ctx.scale, ctx.shape, ctx.dtype, ctx.trained = scale, x.shape, x.dtype, trained
        return torch.addmm(flat @ weight.T, low, up.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        """Return the gradients of x, A and B, the latter two in their own type."""
        flat, weight, down, up, low = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0]).to(weight.dtype)
        low_gradient = gradient @ up
        wide = None
        if ctx.needs_input_grad[0]:
            wide = torch.addmm(gradient @ weight, low_gradient, down).view(ctx.shape).to(ctx.dtype)
        return wide, None, (low_gradient.T @ flat).to(ctx.trained), (gradient.T @ low).to(ctx.trained) * ctx.scale, None


def _forward(layer: Any, x: Tensor) -> Tensor:
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return LowRankLinear.apply(x, layer.base_layer.weight, down, up, layer.scaling["default"])  # type: ignore[return-value]


def fuse(model: Any, longest: int) -> int:
    """Switch a model's plain LoRA layers to this form for training; return how many.

    Layers with dropout or a bias keep PEFT's own forward, and so does everything that is loaded later.

    Args:
        model: a transformers model, with LoRA layers or without.
        longest: tokens of the longest sequence that will be trained on.
    """
    layers = [
        module
        for module in model.modules()
        if type(module) is Linear
        and module.base_layer.bias is None
        and not getattr(module.lora_dropout["default"], "p", 0.0)
    ]
    for layer in layers:
        layer.forward = types.MethodType(_forward, layer)
    if longest <= _SHORT and next(model.parameters()).device.type == "cpu":
        model.set_attn_implementation("eager")
    return len(layers)
