"""This project's training step: the same batches, losses and Lightning loop as step train."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from benchmarks.measure import Round, clock
from benchmarks.workload import Workload
from persllm.geometry import Geometry
from persllm.language_model import device, load_base
from persllm.training.adapters import attach, inner
from persllm.training.batch import Batch
from persllm.training.fused import fuse
from persllm.training.module import Personifier
from persllm.training.schedule import Loader, Schedule, make_schedule
from persllm.training.setup import Batches, Unit
from persllm.training.weights import trained


@dataclass(frozen=True)
class Job:
    """A few optimizer steps, the same for every side."""

    work: Workload
    objective: str
    units: list[Unit]
    schedule: Schedule
    optim: dict[str, Any]

    @property
    def pad(self) -> int:
        """The padding token's id."""
        return int(self.work.tokenizer.pad_token_id)

    @property
    def micro_batch(self) -> int:
        """Units per forward pass."""
        return len(self.schedule.steps[0][0])

    def rows(self) -> list[Unit]:
        """Return the units step by step, shuffled within each step as a plain sampler leaves them."""
        shuffled = random.Random(self.work.seed)
        found = []
        for step in self.schedule.steps:
            order = [unit for micro in step for unit in micro]
            shuffled.shuffle(order)
            found += [self.units[unit] for unit in order]
        return found

    def model(self) -> Any:
        """Return the base with a LoRA adapter, the same weights at each call.

        For DPO the adapter is no longer at zero, so that a reference without it would be seen in the loss.
        """
        pl.seed_everything(self.work.seed, verbose=False)
        work = self.work
        model = attach(load_base(work.source, work.model["dtype"], work.model["revision"]), work.tune, "", [])
        if self.objective == "dpo":
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.005)
        return model


def make_job(work: Workload, objective: str, steps: int, batch_size: int, micro_batch: int) -> Job:
    """Take the first steps of the run that the study's schedule makes.

    Args:
        work: the study's data.
        objective: ``sft`` or ``dpo``.
        steps: optimizer steps.
        batch_size: sequences (SFT) or pairs (DPO) per optimizer step.
        micro_batch: of them, per forward pass.
    """
    units = work.sft if objective == "sft" else work.dpo
    # The plain DPO loss is what both sides know by the same name.
    optim = work.tune[objective] | ({"nll_weight": 0.0} if objective == "dpo" else {})
    lengths = [max(map(len, unit)) for unit in units]
    taken = make_schedule(lengths, batch_size, micro_batch, 1, work.seed).steps[:steps]
    used = sorted({unit for step in taken for micro in step for unit in micro})
    place = {unit: index for index, unit in enumerate(used)}
    moved = [[[place[unit] for unit in micro] for micro in step] for step in taken]
    return Job(work, objective, [units[unit] for unit in used], Schedule(moved, 0), optim)


def restore(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Put the trained weights back."""
    own = dict(trained(model))
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


class _Ticks(Callback):
    """Times the steps from the loop's start to the end of its last step, and reads each step's loss."""

    def __init__(self, done: Round) -> None:
        self.done = done
        self.began = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % pl_module.geometry.accumulation == 0:
            self.done.seconds = clock() - self.began
            self.done.losses.append(pl_module.step_loss)
            pl_module.step_loss = 0.0


class Ours:
    """Personifier under Lightning, fed by the schedule's loader."""

    def __init__(self, job: Job) -> None:
        self.name = "persllm"
        self.job = job
        self.tuned = job.model()
        fuse(inner(self.tuned), max(max(map(len, unit)) for unit in job.units))
        self.state = {name: value.detach().clone() for name, value in trained(self.tuned)}
        for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)

    def run(self) -> Round:
        """Train from the same weights as before."""
        restore(self.tuned, self.state)
        job, done = self.job, Round()
        began = clock()
        batches = Batches(job.units, job.pad, job.micro_batch)
        geometry = Geometry(1, job.micro_batch, len(job.schedule.steps[0]))
        module = Personifier(self.tuned, job.objective, job.optim, len(job.schedule.steps), geometry)
        if job.objective == "dpo":
            module.eval()
            with torch.no_grad(), torch.autocast(device().type, torch.bfloat16, enabled=job.work.bf16):
                batches.refer(lambda batch: module(batch.to(device())))
            done.reference_seconds = clock() - began

        def counted(chosen: list[int], step: list[list[int]]) -> Batch:
            batch = batches.make(chosen, step)
            done.count(batch.attention_mask, batch.loss_mask)
            return batch

        module.train()
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=1,
            accumulate_grad_batches=geometry.accumulation,
            gradient_clip_val=job.optim["clip"],
            precision="bf16-mixed" if job.work.bf16 else "32-true",
            limit_val_batches=0,
            logger=False,
            callbacks=[_Ticks(done)],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(module, Loader(job.schedule, counted))  # type: ignore[arg-type]
        return done
