"""The two objectives, as functions of completion log-probabilities."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from persllm.training.batch import Batch, row_sums


def sft_loss(log_probs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the negative log-likelihood, summed here and divided by the whole optimizer step's loss tokens.

    So that summed over micro-batches it is the mean over the step's tokens, however they are cut.
    """
    return -log_probs.sum() / batch.denominator


def dpo_terms(
    log_probs: torch.Tensor, rows: torch.Tensor, batch: Batch, beta: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return per pair: the DPO loss (arXiv 2305.18290, eq. 7), the chosen answer's mean NLL, and the reward margin.

    Rows alternate chosen, rejected. Shapes: [B / 2] each; nats.
    """
    if batch.reference is None:
        raise ValueError("DPO needs reference log-probabilities in the batch")
    count = batch.input_ids.shape[0]
    policy = row_sums(log_probs, rows, count)
    gain = beta * (policy - batch.reference)
    margin = gain[0::2] - gain[1::2]
    lengths = batch.loss_mask.sum(1)
    return -logsigmoid(margin), -(policy / lengths)[0::2], margin


def dpo_loss(log_probs: torch.Tensor, rows: torch.Tensor, batch: Batch, beta: float, nll_weight: float) -> torch.Tensor:
    """Return DPO plus the chosen answer's weighted NLL, divided by the whole optimizer step's pairs."""
    preference, nll, _ = dpo_terms(log_probs, rows, batch, beta)
    return (preference + nll_weight * nll).sum() / batch.denominator
