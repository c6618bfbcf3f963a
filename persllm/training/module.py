"""The LightningModule: one model, one objective, AdamW with warm-up and cosine."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch

from persllm.training.adapters import inner
from persllm.training.batch import Batch, completion_log_probs
from persllm.training.losses import dpo_loss, dpo_terms, sft_loss


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Return the factor at an optimizer step: linear warm-up, then cosine down to a tenth."""
    ramp = max(1, round(warmup * total))
    if step < ramp:
        return (step + 1) / ramp
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, total - ramp)))


class Personifier(pl.LightningModule):
    """Trains a model on ``sft`` or ``dpo``.

    Args:
        model: with its trained weights switched on.
        objective: ``sft`` or ``dpo``.
        optim: the objective's section of the method.
        total_steps: optimizer steps of the whole run (the horizon of the cosine).
        accumulation: micro-batches per optimizer step.
    """

    def __init__(self, model: Any, objective: str, optim: dict[str, Any], total_steps: int, accumulation: int) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.optim = optim
        self.total_steps = total_steps
        self.accumulation = accumulation
        # The frozen base is not in the checkpoint, and need not be in it to resume.
        self.strict_loading = False
        self.step_loss = 0.0
        self.held_out: list[tuple[float, float]] = []

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the trained weights only."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if name in trained}

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the micro-batch's share of the optimizer step's loss."""
        log_probs, rows = completion_log_probs(inner(self.model), batch)
        if self.objective == "sft":
            return sft_loss(log_probs, batch)
        return dpo_loss(log_probs, rows, batch, self.optim["beta"], self.optim["nll_weight"])

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss to differentiate. Lightning divides by the accumulation; the denominator already did."""
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} at micro-batch {batch_idx}")
        self.step_loss += float(loss.detach())
        return loss * self.accumulation

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect a held-out batch's loss, summed, and its weight."""
        log_probs, rows = completion_log_probs(inner(self.model), batch)
        if self.objective == "sft":
            self.held_out.append((float(-log_probs.sum()), float(log_probs.numel())))
            return
        preference, nll, _ = dpo_terms(log_probs, rows, batch, self.optim["beta"])
        total = preference + self.optim["nll_weight"] * nll
        self.held_out.append((float(total.sum()), float(total.numel())))

    def on_validation_epoch_end(self) -> None:
        """Publish the held-out loss, weighted by tokens (SFT) or pairs (DPO)."""
        total, weight = (sum(column) for column in zip(*self.held_out, strict=True))
        self.held_out.clear()
        self.log("val_loss", total / weight, prog_bar=True, logger=False)

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule, stepped once per optimizer step."""
        optimizer = torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad],
            lr=self.optim["learning_rate"],
            betas=tuple(self.optim["betas"]),
            weight_decay=self.optim["weight_decay"],
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.total_steps, self.optim["warmup"])
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
