"""LoRA layers and norms as one autograd function each: the same numbers in fewer passes over the activations.

PEFT's own forward scales and adds the adapter's output in passes of their own, three a layer and as many backward; here
the scale sits on the small matrix and the additions inside the matrix products. With norms in one pass and attention as
plain matrix products, a step of a small model on two cores takes about half of the time.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

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


class RmsNorm(torch.autograd.Function):
    """``x / rms(x) * weight`` over the last axis for a frozen weight, in float32 inside (arXiv 1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Return a tensor like ``x``."""
        wide = x.float()
        scale = torch.linalg.vecdot(wide, wide).div_(x.shape[-1]).add_(epsilon).rsqrt_().unsqueeze(-1)
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).to(x.dtype) * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of x."""
        x, weight, scale = ctx.saved_tensors
        wide, gradient = x.float(), (gradients[0] * weight).float()
        along = torch.linalg.vecdot(gradient, wide).unsqueeze(-1) * scale.square() / x.shape[-1]
        return ((gradient - wide * along) * scale).to(x.dtype), None, None


def _norm(norm: Any, x: Tensor) -> Tensor:
    return RmsNorm.apply(x, norm.weight, norm.variance_epsilon)  # type: ignore[return-value]


def _low_rank(layer: Any, x: Tensor) -> Tensor:
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return LowRankLinear.apply(x, layer.base_layer.weight, down, up, layer.scaling["default"])  # type: ignore[return-value]


def fuse(model: Any, longest: int | None = None) -> int:
    """Switch a model's plain LoRA layers, and the frozen norms with them, to these forms; return how many layers.

    Layers with dropout or a bias keep PEFT's own forward, and other norms than Llama's their own.

    Args:
        model: a transformers model, with LoRA layers or without.
        longest: tokens of the longest sequence that will be trained on; None where nothing is trained.
    """
    layers = [
        module
        for module in model.modules()
        if type(module) is Linear
        and module.base_layer.bias is None
        and not getattr(module.lora_dropout["default"], "p", 0.0)
    ]
    for layer in layers:
        layer.forward = types.MethodType(_low_rank, layer)
    for module in model.modules():
        if type(module) is LlamaRMSNorm and not module.weight.requires_grad:
            module.forward = types.MethodType(_norm, module)
    if longest is not None and longest <= _SHORT and next(model.parameters()).device.type == "cpu":
        model.set_attn_implementation("eager")
    return len(layers)
