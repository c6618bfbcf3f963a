"""What happens around the steps: curves, the best weights, saved states, stopping."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from persllm.execute import Context
from persllm.stop import Interrupted, lease_lost
from persllm.training import distributed, weights
from persllm.training.batch import Batch


class Bar(TQDMProgressBar):
    """Lightning's bar, within 80 columns and without its version number, on stderr: a rank's stdout is a log file."""

    def init_train_tqdm(self) -> Any:
        """Return the bar of the steps."""
        with contextlib.redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Any:
        """Return the bar of the held-out batches."""
        with contextlib.redirect_stdout(sys.stderr):
            return super().init_validation_tqdm()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what stands at the end of the bar."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}


COLUMNS = ("step", "tokens", "loss", "val_loss", "learning_rate")
"""Of a line of curves.jsonl, in this order."""


def folders(work: Path, kind: str) -> list[Path]:
    """Return the folders ``kind-STEP``, the earliest step first."""
    return sorted(path for path in work.glob(f"{kind}-*") if path.suffix != ".aside")


class Keeper(Callback):
    """Keeps the curves, the best weights and the training state, and stops when held-out loss stops falling.

    All of it counts optimizer steps, so that a run goes on with another micro-batch, on other ranks or by another
    strategy, and ends with the same curves and the same weights.

    Args:
        ctx: the step.
        tokens: of each optimizer step, over all ranks.
        patience: validations without improvement before the run stops.
        validate_every: optimizer steps between validations.
        dtype: of the best weights' files.
        stop: says whether to stop after this step.
    """

    def __init__(
        self,
        ctx: Context,
        tokens: list[int],
        patience: int,
        validate_every: int,
        dtype: torch.dtype,
        stop: Callable[[], bool],
    ) -> None:
        self.ctx = ctx
        self.step_tokens = tokens
        self.patience = patience
        self.validate_every = validate_every
        self.dtype = dtype
        self.stop = stop
        self.every_seconds: float = ctx.local["strategy"]["checkpoint_seconds"]
        self.step = 0
        """Optimizer steps that are done."""
        self.curves: list[dict[str, Any]] = []
        self.best, self.best_step, self.waited = math.inf, 0, 0
        self.tokens, self.seconds = 0, 0.0
        self.saved: weights.Folder | None = None
        self.before_training: Callable[[Callable[[Batch], Any]], None] | None = None
        """Called once with the strategy's forward pass, before the first step."""
        self.tell: Callable[[BaseException], None] | None = None
        """Told of a failure at once."""
        self.probe: Batch | None = None
        self.probed: torch.Tensor | None = None
        """The best weights' log-probabilities of ``probe``, [N] in float32."""
        self._rate = 0.0
        self._save_seconds = 0.0
        self._resumed_at = self._saved_at = time.perf_counter()

    # ---- saved states ----

    def resume(self) -> bool:
        """Take up the last saved state, if there is one; its weights follow when the strategy is set up."""
        found = folders(self.ctx.work, "state")
        if not found:
            return False
        self.saved = weights.Folder(found[-1])
        record = self.saved.record
        self.step = record["step"]
        # In their own order, which JSON's sorted keys lost: the artifact has the same bytes however often it was cut.
        self.curves = [{name: row[name] for name in COLUMNS} for row in record["curves"]]
        self.best, self.best_step, self.waited = record["best"], record["best_step"], record["waited"]
        self.tokens, self.seconds = record["tokens"], record["seconds"]
        return True

    @property
    def saved_by(self) -> int:
        """How many ranks saved the state that this run goes on from; 0 where it begins."""
        return self.saved.record["ranks"] if self.saved else 0

    def _save(self, trainer: pl.Trainer, model: Any) -> None:
        """Write the state of this step, then drop the states and best weights that it makes needless."""
        began = time.perf_counter()
        named, optimizer = weights.trained(model), trainer.optimizers[0]
        tensors = [(name, lambda p=p: weights.whole(p)) for name, p in named]
        tensors += [
            (f"{name}::{key}", lambda p=p, key=key: weights.moment(optimizer, p, key))
            for name, p in named
            for key in weights.MOMENTS
        ]
        record = {"step": self.step, "curves": self.curves, "best": self.best, "best_step": self.best_step}
        record |= {"waited": self.waited, "tokens": self.tokens, "ranks": distributed.world()}
        record["seconds"] = self.seconds + time.perf_counter() - self._resumed_at
        target = self.ctx.work / f"state-{self.step:08}"
        weights.write_folder(target, tensors, record)
        if distributed.rank() == 0:
            for old in (*folders(self.ctx.work, "state"), *folders(self.ctx.work, "best")):
                if old not in (target, self._best_folder()):
                    shutil.rmtree(old)
        self._saved_at = time.perf_counter()
        self._save_seconds = self._saved_at - began

    def _best_folder(self) -> Path:
        return self.ctx.work / f"best-{self.best_step:08}"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put a saved state's weights and moments where the strategy holds them; ask what is asked beforehand."""
        if self.saved is not None:
            named = weights.trained(pl_module.model)
            for name, p in named:
                weights.assign(p, self.saved.read(name))
            weights.restore_moments(trainer.optimizers[0], named, self.saved.read, self.step)
        if self.before_training is not None:
            self.before_training(lambda batch: self._forward(trainer, batch))
        self._on_sigterm = signal.getsignal(signal.SIGTERM)
        self._resumed_at = self._saved_at = time.perf_counter()

    def _forward(self, trainer: pl.Trainer, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities and rows of a batch, as the strategy computes them."""
        model = trainer.strategy.model
        assert model is not None
        training = model.training
        model.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            found = model(batch.to(distributed.device()))
        model.train(training)
        return found

    # ---- steps ----

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Take back the handler of SIGTERM: Lightning's, set a moment ago, stops before a state is saved."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Say whether a validation follows; make dropout a matter of the micro-batch alone, on whatever rank."""
        geometry = pl_module.geometry
        last = (batch_idx + 1) % geometry.accumulation == 0
        due = last and self._validates(self.step + 1)
        # Lightning validates where this divides the batch's number: only here, or only later.
        trainer.val_check_batch = batch_idx + 1 if due else batch_idx + 2
        place = (self.step * geometry.accumulation + batch_idx % geometry.accumulation) * geometry.ranks
        torch.manual_seed(self.ctx.config["seed"] * 1_000_003 + place + distributed.rank())

    def _validates(self, step: int) -> bool:
        return step % self.validate_every == 0 or step == len(self.step_tokens)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note the learning rate that this step is made with: after it the scheduler has moved on."""
        self._rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log each optimizer step; save the state when it is due; stop when asked to."""
        if (batch_idx + 1) % pl_module.geometry.accumulation:
            return
        self.tokens += self.step_tokens[self.step]
        self.step += 1
        (loss,) = distributed.total([pl_module.step_loss])
        pl_module.step_loss = 0.0
        row = {"step": self.step, "tokens": self.tokens, "loss": round(loss, 6)}
        self.curves.append(row | {"val_loss": None, "learning_rate": float(f"{self._rate:.6g}")})
        self._log(trainer, self.curves[-1], {"train/loss": row["loss"], "train/learning_rate": self._rate})
        if not self._validates(self.step):
            self._save_if_due(trainer, pl_module)
        # Else after validation: a state that is saved before it would never be validated.

    def _log(self, trainer: pl.Trainer, line: dict[str, Any], metrics: dict[str, float]) -> None:
        if distributed.rank() == 0:
            self.ctx.log(**line)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=self.step)

    def _save_if_due(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # A signal reaches the ranks at different steps, and their clocks differ: they must agree.
        # A large model takes minutes to save: no more than a twentieth of its time goes into that.
        pause = max(self.every_seconds, 20 * self._save_seconds if self._save_seconds > 1 else 0)
        due = distributed.rank() == 0 and time.perf_counter() - self._saved_at > pause
        stop, save = distributed.total([float(self.stop()), float(due)])
        if (stop or save) and not lease_lost():
            self._save(trainer, pl_module.model)
        if stop:
            raise Interrupted

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keep the best weights; count validations without improvement."""
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(f"the held-out loss is {loss} after step {self.step}")
        self.curves[-1]["val_loss"] = round(loss, 6)
        self._log(trainer, {"step": self.step, "val_loss": loss}, {"val/loss": loss})
        if loss < self.best:
            self.best, self.best_step, self.waited = loss, self.step, 0
            tensors = [
                (name, lambda p=p: weights.whole(p).to(self.dtype)) for name, p in weights.trained(pl_module.model)
            ]
            weights.write_folder(self._best_folder(), tensors, {"step": self.step, "val_loss": loss})
        else:
            self.waited += 1
            trainer.should_stop = self.waited >= self.patience
        if not trainer.should_stop and self.step < len(self.step_tokens):
            self._save_if_due(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the best weights back, and have them read the probe."""
        self.seconds += time.perf_counter() - self._resumed_at
        best = self.best_weights()
        for name, p in weights.trained(pl_module.model):
            weights.assign(p, best.read(name))
        if self.probe is not None:
            self.probed = self._forward(trainer, self.probe)[0].float().cpu()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Tell why training failed, before Lightning tears down, which may wait for ranks that are gone."""
        if self.tell is not None and not isinstance(exception, Interrupted):
            self.tell(exception)

    def best_weights(self) -> weights.Folder:
        """Return the weights of the best validation."""
        return weights.Folder(self._best_folder())
