"""What happens around the steps: curves, the best weights, checkpoints, stopping."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save_file

from persllm.execute import Context, Interrupted, stop_asked
from persllm.training.adapters import trained_state
from persllm.training.batch import Batch
from persllm.training.schedule import Schedule


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, sync, rename: a killed write leaves the last checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint."""
        aside = Path(f"{path}.aside")
        with aside.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


class Bar(TQDMProgressBar):
    """Lightning's bar, within 80 columns and without its version number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands at the end of the bar."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}


class Keeper(Callback):
    """Keeps the curves, the best weights and the training state, and stops when held-out loss stops falling.

    Its state is in the checkpoint, so a resumed run ends with the same curves and the same weights.
    """

    def __init__(self, ctx: Context, patience: int, every_seconds: float, val_every: int, schedule: Schedule) -> None:
        self.ctx = ctx
        self.patience = patience
        self.every_seconds = every_seconds
        self.val_every = val_every
        self.total = len(schedule.micro_batches)
        self.best_file = ctx.work / "best.safetensors"
        # Its counters are of micro-batches: a state saved with others (a retry with less memory) would be misread.
        self.checkpoint = ctx.work / f"last-x{schedule.accumulation}.ckpt"
        self.curves: list[dict[str, Any]] = []
        self.best = math.inf
        self.waited = 0
        self.tokens = 0
        self.seconds = 0.0
        self._rate = 0.0
        self._random: list[torch.Tensor] | None = None
        self._resumed_at = self._saved_at = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs."""
        return {
            "curves": self.curves,
            "best": self.best,
            "waited": self.waited,
            "tokens": self.tokens,
            "seconds": self.seconds + time.perf_counter() - self._resumed_at,
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.curves = state_dict["curves"]
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        self.tokens, self.seconds = state_dict["tokens"], state_dict["seconds"]
        self._random = state_dict["random"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the random numbers (dropout draws them) where the saved run stood."""
        if self._random is not None:
            cpu, *cuda = self._random
            torch.set_rng_state(cpu)
            torch.cuda.set_rng_state_all(cuda)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Have the last step validated too, which Lightning does at multiples only: it may be the best."""
        if batch_idx + 1 == self.total:
            trainer.val_check_batch = self.total

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note the learning rate that this step is made with: after it the scheduler has moved on."""
        self._rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log each optimizer step; save the state when it is due; stop when asked to."""
        self.tokens += int(batch.attention_mask.sum())
        if (batch_idx + 1) % pl_module.accumulation:
            return
        row = {"step": trainer.global_step, "tokens": self.tokens, "loss": round(pl_module.step_loss, 6)}
        pl_module.step_loss = 0.0
        self.curves.append(row | {"val_loss": None, "learning_rate": float(f"{self._rate:.6g}")})
        self.ctx.log(**self.curves[-1])
        for logger in trainer.loggers:
            logger.log_metrics({"train/loss": row["loss"], "train/learning_rate": self._rate}, step=row["step"])
        if (batch_idx + 1) % self.val_every and batch_idx + 1 < self.total:
            self._save_if_due(trainer)
        # Else after validation: Lightning would take a state saved here for a later one, and never validate.

    def _save_if_due(self, trainer: pl.Trainer) -> None:
        if stop_asked() or time.perf_counter() - self._saved_at > self.every_seconds:
            trainer.save_checkpoint(str(self.checkpoint))
            self._saved_at = time.perf_counter()
        if stop_asked():
            raise Interrupted

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best weights; count validations without improvement."""
        if trainer.sanity_checking:
            return
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(f"the held-out loss is {loss} after step {trainer.global_step}")
        self.curves[-1]["val_loss"] = round(loss, 6)
        self.ctx.log(step=trainer.global_step, val_loss=loss)
        for logger in trainer.loggers:
            logger.log_metrics({"val/loss": loss}, step=trainer.global_step)
        if loss < self.best:
            self.best, self.waited = loss, 0
            aside = self.best_file.with_suffix(".aside")
            save_file({name: value.contiguous().cpu() for name, value in trained_state(pl_module).items()}, aside)
            aside.replace(self.best_file)
        else:
            self.waited += 1
            trainer.should_stop = self.waited >= self.patience
        if not trainer.should_stop:
            self._save_if_due(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the best weights back."""
        self.seconds += time.perf_counter() - self._resumed_at
        if self.best_file.exists():
            own = trained_state(pl_module)
            with torch.no_grad():
                for name, value in load_file(self.best_file).items():
                    own[name].copy_(value)
