"""Train one step's model, alone or as one of several ranks, and export what is best."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from persllm import records
from persllm.architecture import Architecture
from persllm.execute import Context
from persllm.geometry import cut, ranks
from persllm.language_model import DTYPES, model_source
from persllm.memory import peak_bytes
from persllm.stop import stop_asked
from persllm.store import read_json, write_json
from persllm.tracking import train_logger
from persllm.training import distributed, weights
from persllm.training.adapters import export, inner
from persllm.training.batch import Sequence, collate
from persllm.training.callbacks import Bar, Keeper
from persllm.training.estimate import estimate
from persllm.training.fused import fuse
from persllm.training.module import Personifier
from persllm.training.schedule import Loader, Schedule, make_schedule
from persllm.training.setup import Batches, Forward, Setup, prepare
from persllm.training.strategy import load_in_shards, trainer_arguments, zero_of
from persllm.training.zero import is_sharded, is_zero

REFERENCE = "reference.json"
"""Where the work folder keeps the reference's log-probabilities (DPO)."""


def train(
    ctx: Context, stop: Callable[[], bool] = stop_asked, tell: Callable[[BaseException], None] | None = None
) -> None:
    """Train; write ``adapter/`` (or ``model/``), ``tokenizer/`` and ``curves.jsonl``, and the probe of the export.

    Every rank calls it; the first one writes.

    Args:
        ctx: the step.
        stop: says whether to save the state and raise ``Interrupted``; asked after each optimizer step.
        tell: told of a failure in the middle of training at once.
    """
    config, strategy = ctx.config, ctx.local["strategy"]
    optim, objective = config["optim"], config["objective"]
    say = ctx.say if distributed.rank() == 0 else lambda _text: None
    source = model_source(ctx.local["model_path"], ctx.outputs)
    geometry = cut(strategy, optim["batch_size"], objective)
    zero = zero_of(strategy, config["model"], source, geometry, objective, optim["clip"])
    pl.seed_everything(config["seed"], verbose=False)
    with load_in_shards(zero):
        setup = prepare(ctx, source, rounded=is_zero(strategy))
    longest = max(max(map(len, unit)) for unit in setup.train + setup.dev)
    if not is_sharded(strategy):
        # Its forms read the weights past the hooks by which ZeRO 3 gathers them.
        fuse(inner(setup.model), longest)
    lengths = [max(map(len, unit)) for unit in setup.train]
    schedule = make_schedule(
        lengths, optim["batch_size"], geometry.micro, optim["epochs"], config["seed"], optim.get("steps")
    )
    sizes = [sum(map(len, unit)) for unit in setup.train]
    tokens = [sum(sizes[index] for micro in step for index in micro) for step in schedule.steps]
    every = max(1, len(schedule.steps) // optim["validations"])
    dtype = DTYPES[config["model"]["dtype"]] if config["tune"]["adapter"] == "full" else torch.float32
    keeper = Keeper(ctx, tokens, optim["patience"], every, dtype, stop)
    say(
        f"{len(setup.train)} training units, {len(setup.dev)} held out, {len(schedule.steps)} steps; "
        f"{schedule.repeated} units repeated to fill the last step; {setup.cut} answers cut at model.max_length"
    )
    keeper.tell = tell
    resumed = keeper.resume()
    _require_one_view(ctx, keeper)
    say(f"resume after step {keeper.step}, saved on ranks: {keeper.saved_by}" if resumed else "train from the start")
    pad = int(setup.tokenizer.pad_token_id)
    parts = [Batches(units, pad, geometry.micro) for units in (setup.train, setup.dev)]
    if objective == "dpo":
        _refer(ctx, keeper, parts)
    keeper.probe = _probe(parts[1])
    module = Personifier(setup.model, objective, optim, len(schedule.steps), geometry, keeper.step)
    loader = Loader(schedule, parts[0].make, distributed.rank(), geometry.ranks, keeper.step)
    arguments = trainer_arguments(strategy, config["model"]["dtype"], geometry, optim["clip"], zero)
    _fit(ctx, module, loader, _Held(parts[1]), keeper, arguments)
    peak = distributed.largest(_peak_device_bytes())
    if distributed.rank() == 0:
        _publish(ctx, setup, keeper, longest)
        ctx.cost |= {"ranks": geometry.ranks, "micro_batch": strategy["micro_batch"], "peak_device_bytes": int(peak)}
        ctx.cost |= {"memory_estimate_bytes": _estimated(ctx, setup, schedule)}


def _require_one_view(ctx: Context, keeper: Keeper) -> None:
    """Raise where the ranks would go on from different states: they would wait for each other in different places."""
    views = distributed.collect((keeper.step, (ctx.work / REFERENCE).exists()))
    if len(set(views)) > 1:
        told = ", ".join(f"step {step}" + (" with a reference" if known else "") for step, known in views)
        raise RuntimeError(f"the ranks see different saved states ({told}): the shared file system lags behind")


class _Held:
    """The held-out batches, made when they are first asked for: DPO's reference is known only then."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.made: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.batches.own())

    def __getitem__(self, place: int) -> Any:
        self.made = self.made or self.batches.dev()
        return self.made[place]


def _refer(ctx: Context, keeper: Keeper, parts: list[Batches]) -> None:
    """Take the reference's log-probabilities from an earlier attempt, or have them computed before the first step."""
    path = ctx.work / REFERENCE
    kept = read_json(path)
    if kept is not None:
        for part, values in zip(parts, kept, strict=True):
            part.reference = values
        return
    if keeper.step:
        raise RuntimeError(f"{path} is gone, but a state was saved after it; delete {ctx.work} to train from the start")

    def compute(forward: Forward) -> None:
        for part in parts:
            part.refer(forward)
        if distributed.rank() == 0:
            write_json(path, [part.reference for part in parts])
        distributed.barrier()

    keeper.before_training = compute


def _probe(dev: Batches) -> Any:
    """Return the same few held-out sequences on every rank, by which the export is checked."""
    sequences = [s for unit in dev.units[: dev.size] for s in unit]
    return collate(sequences, dev.pad, 1)


def _peak_device_bytes() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_bytes()


def _estimated(ctx: Context, setup: Setup, schedule: Schedule) -> int | None:
    """Return the memory that the largest micro-batch should have needed, in bytes; None for an unknown architecture."""
    try:
        architecture = Architecture.from_config(setup.model.config.to_dict())
    except ValueError:
        return None
    largest: list[Sequence] = max(
        ([s for index in micro for s in setup.train[index]] for step in schedule.steps for micro in step),
        key=lambda sequences: len(sequences) * max(map(len, sequences)),
    )
    return estimate(
        architecture,
        ctx.config["tune"],
        ctx.config["objective"],
        ctx.local["strategy"],
        ctx.config["model"]["dtype"],
        rows=len(largest),
        tokens=max(map(len, largest)),
        completion_tokens=sum(len(s.completion) for s in largest),
        accumulation=len(schedule.steps[0]) // ranks(ctx.local["strategy"]),
        on_cpu=not torch.cuda.is_available(),
    ).total


def _publish(ctx: Context, setup: Setup, keeper: Keeper, longest: int) -> None:
    """Export the best weights, and keep what they made of the probe."""
    export(setup.model, setup.tokenizer, ctx.out, keeper.best_weights())
    assert keeper.probe is not None
    assert keeper.probed is not None
    probe = {name: getattr(keeper.probe, name) for name in ("input_ids", "attention_mask", "loss_mask", "prompt_group")}
    probe |= {"log_probs": keeper.probed, "longest": torch.tensor(longest)}
    save_file(probe, ctx.work / "probe.safetensors")
    records.write(ctx.out / "curves.jsonl", keeper.curves)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    ctx.cost |= {
        "train_seconds": round(keeper.seconds, 3),
        "train_tokens": keeper.tokens,
        "tokens_per_second": round(keeper.tokens / keeper.seconds, 1),
        "trainable_parameters": sum(getattr(p, "ds_numel", p.numel()) for _, p in weights.trained(setup.model)),
        "device": device,
    }


def _fit(
    ctx: Context, module: Personifier, loader: Loader, dev: _Held, keeper: Keeper, arguments: dict[str, Any]
) -> None:
    logger = train_logger(ctx) if distributed.rank() == 0 else None
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    shown = sys.stderr.isatty() and distributed.rank() == 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = pl.Trainer(
                max_epochs=1,
                num_sanity_val_steps=0,
                logger=logger or False,
                callbacks=[keeper, Bar(leave=False)] if shown else [keeper],
                enable_progress_bar=shown,
                enable_checkpointing=False,
                enable_model_summary=False,
                default_root_dir=str(ctx.work),
                **arguments,
            )
            module.train()
            trainer.fit(module, loader, DataLoader(dev, batch_size=None))  # type: ignore[arg-type]
    finally:
        if logger is not None:
            # One W&B run at a time in a process, finished before the next begins.
            logger.experiment.finish()
