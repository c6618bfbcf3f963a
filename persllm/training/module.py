"""The LightningModule: one model, one objective, AdamW with warm-up and cosine."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch

from persllm.geometry import Geometry
from persllm.training import distributed
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
        geometry: how an optimizer step is cut into ranks and micro-batches.
        first_step: optimizer steps that an interrupted run has made already.
    """

    def __init__(
        self,
        model: Any,
        objective: str,
        optim: dict[str, Any],
        total_steps: int,
        geometry: Geometry,
        first_step: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.optim = optim
        self.total_steps = total_steps
        self.geometry = geometry
        self.first_step = first_step
        self.step_loss = 0.0
        self.held_out: list[tuple[float, float]] = []

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each loss token's log-probability and its row (see ``completion_log_probs``)."""
        return completion_log_probs(inner(self.model), batch)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the micro-batch's share of the optimizer step's loss."""
        log_probs, rows = self.forward(batch)
        if self.objective == "sft":
            return sft_loss(log_probs, batch)
        return dpo_loss(log_probs, rows, batch, self.optim["beta"], self.optim["nll_weight"])

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss to differentiate.

        Lightning (or DeepSpeed) divides by the accumulation, and gradients are averaged over the ranks; the loss's own
        denominator is the whole step's already.
        """
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {float(loss)} at micro-batch {batch_idx}")
        self.step_loss += float(loss.detach())
        return loss * (self.geometry.accumulation * self.geometry.ranks)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect a held-out batch's loss, summed, and its weight; one of denominator 0 only keeps ranks in step."""
        log_probs, rows = self.forward(batch)
        if not batch.denominator:
            return
        if self.objective == "sft":
            self.held_out.append((float(-log_probs.sum()), float(log_probs.numel())))
            return
        preference, nll, _ = dpo_terms(log_probs, rows, batch, self.optim["beta"])
        total = preference + self.optim["nll_weight"] * nll
        self.held_out.append((float(total.sum()), float(total.numel())))

    def on_validation_epoch_end(self) -> None:
        """Publish the held-out loss, weighted by tokens (SFT) or pairs (DPO)."""
        total, weight = distributed.total([sum(row[i] for row in self.held_out) for i in (0, 1)])
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
            optimizer,
            lambda step: learning_rate_factor(self.first_step + step, self.total_steps, self.optim["warmup"]),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
