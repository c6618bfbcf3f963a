"""A batch: tokens, and their structure (which tokens carry loss, which rows share a prompt).

The one place that knows how sequences meet the model: a faster layout changes ``collate`` and ``completion_log_probs``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Sequence:
    """One prompt and the completion that is learned."""

    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass
class Batch:
    """Right-padded rows. B rows, T tokens, N tokens with loss."""

    input_ids: torch.Tensor
    """[B, T]"""
    attention_mask: torch.Tensor
    """[B, T], 1 for tokens"""
    loss_mask: torch.Tensor
    """[B, T], 1 where the token is predicted with loss"""
    prompt_group: torch.Tensor
    """[B], equal where rows share a prompt"""
    denominator: torch.Tensor
    """scalar: loss tokens (or pairs) of the whole optimizer step, over its micro-batches"""
    reference: torch.Tensor | None = None
    """[B], the reference model's log-probability of each completion (DPO)"""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(**{k: v if v is None else v.to(device) for k, v in vars(self).items()})  # type: ignore[arg-type]


def collate(sequences: list[Sequence], pad: int, denominator: float, reference: list[float] | None = None) -> Batch:
    """Pad sequences into a batch."""
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), pad)
    mask = torch.zeros_like(ids)
    loss = torch.zeros_like(ids)
    groups: dict[tuple[int, ...], int] = {}
    group = []
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence.prompt + sequence.completion)
        mask[row, : len(sequence)] = 1
        loss[row, len(sequence.prompt) : len(sequence)] = 1
        group.append(groups.setdefault(tuple(sequence.prompt), len(groups)))
    return Batch(
        input_ids=ids,
        attention_mask=mask,
        loss_mask=loss,
        prompt_group=torch.tensor(group),
        denominator=torch.tensor(float(denominator)),
        reference=None if reference is None else torch.tensor(reference),
    )


def completion_log_probs(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each loss token, [N] in float32, and its row, [N].

    Logits are computed at loss positions only: the head is a fifth of a small model's work.
    """
    hidden = model.get_decoder()(  # type: ignore[operator]
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).last_hidden_state
    rows, columns = batch.loss_mask.nonzero(as_tuple=True)
    logits = model.get_output_embeddings()(hidden[rows, columns - 1]).float()  # type: ignore[misc]
    targets = batch.input_ids[rows, columns]
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none"), rows


def row_sums(values: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Sum token values [N] into rows, [count]."""
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, rows, values)
