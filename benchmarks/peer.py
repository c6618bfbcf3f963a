"""TRL's trainers on the same job: same weights, token ids, optimizer, schedule, clipping and precision.

Gradient checkpointing, on by default in TRL, is off on both sides: it trades time for memory, and ratios should not
owe anything to it. Evaluation, saving and logging are off too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import datasets
import torch
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from benchmarks.measure import Round, clock
from benchmarks.training import Job, restore
from persllm.training.module import learning_rate_factor
from persllm.training.weights import trained


class _Watch(TrainerCallback):
    """Times the steps from the loop's start to the end of its last step."""

    def __init__(self) -> None:
        self.done = Round()
        self.began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.done.seconds = clock() - self.began


def _sft_rows(job: Job) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"input_ids": s.prompt + s.completion, "labels": [-100] * len(s.prompt) + s.completion} for (s,) in job.rows()]
    )


def _dpo_rows(job: Job) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [
            {"prompt_ids": chosen.prompt, "chosen_ids": chosen.completion, "rejected_ids": rejected.completion}
            for chosen, rejected in job.rows()
        ]
    )


class _Tokenised(DPOTrainer):
    """Takes token ids as they are, so that both sides see the same ones."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset


def _config(job: Job, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": job.micro_batch,
        "gradient_accumulation_steps": len(job.schedule.steps[0]),
        "max_steps": len(job.schedule.steps),
        "max_length": job.work.model["max_length"],
        "max_grad_norm": job.optim["clip"],
        "bf16": job.work.bf16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "seed": job.work.seed,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


class Peer:
    """An ``SFTTrainer`` or ``DPOTrainer``.

    Args:
        job: what to train.
        folder: where TRL may write.
        precompute: DPO: compute reference log-probabilities once, ahead of the steps; TRL's default is in each step.
    """

    def __init__(self, job: Job, folder: str, precompute: bool = False) -> None:
        datasets.disable_progress_bars()
        for name in ("trl", "accelerate", "transformers"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.job = job
        self.name = "TRL" if job.objective == "sft" else f"TRL, {'precomputed' if precompute else 'default'}"
        self.precompute = precompute
        self.watch = _Watch()
        common = {"model": job.model(), "processing_class": job.work.tokenizer, "callbacks": [self.watch]}
        if job.objective == "sft":
            args = SFTConfig(**_config(job, folder))
            self.trainer: Any = SFTTrainer(args=args, train_dataset=_sft_rows(job), **common)
        else:
            args = DPOConfig(**_config(job, folder), beta=job.optim["beta"], precompute_ref_log_probs=precompute)
            self.trainer = _Tokenised(args=args, train_dataset=_dpo_rows(job), **common)
        self.trainer.remove_callback(PrinterCallback)
        self.state = {name: value.detach().clone() for name, value in trained(self.trainer.model)}
        self.collate, self.step = self.trainer.data_collator, self.trainer.training_step
        self.trainer.data_collator = self._counted
        self.trainer.training_step = self._watched

    def _counted(self, rows: list[dict[str, Any]]) -> Any:
        batch = self.collate(rows)
        learned = batch["labels"] != -100 if "labels" in batch else batch["completion_mask"]
        self.watch.done.count(batch["attention_mask"], learned)
        return batch

    def _watched(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = self.step(*args, **kwargs)
        self.losses.append(loss)
        return loss

    def _reference_seconds(self) -> float:
        rows, size = list(self.trainer.train_dataset), self.job.micro_batch
        began = clock()
        for start in range(0, len(rows), size):
            batch = self.collate(rows[start : start + size])
            batch = {name: value.to(self.trainer.model.device) for name, value in batch.items()}
            self.trainer.compute_ref_log_probs(self.trainer.model, batch)
        return clock() - began

    def run(self) -> Round:
        """Train from the same weights as before, with a fresh optimizer."""
        restore(self.trainer.model, self.state)
        done = self.watch.done = Round()
        self.losses: list[torch.Tensor] = []
        if self.precompute:
            done.reference_seconds = self._reference_seconds()
        optim, total = self.job.optim, len(self.job.schedule.steps)
        self.trainer.optimizer = torch.optim.AdamW(
            [p for p in self.trainer.model.parameters() if p.requires_grad],
            lr=optim["learning_rate"],
            betas=tuple(optim["betas"]),
            weight_decay=optim["weight_decay"],
        )
        factor: Callable[[int], float] = lambda step: learning_rate_factor(step, total, optim["warmup"])  # noqa: E731
        self.trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.trainer.optimizer, factor)
        self.trainer.train()
        micro = len(self.job.schedule.steps[0])
        done.losses = [float(sum(self.losses[i : i + micro])) for i in range(0, len(self.losses), micro)]
        return done
