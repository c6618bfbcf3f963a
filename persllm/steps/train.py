"""Step train: SFT on a persona's items, or DPO on its pairs from the SFT weights."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from persllm import records
from persllm.errors import UserError
from persllm.execute import Context
from persllm.language_model import DTYPES, load_base, load_tokenizer, model_source
from persllm.records import PREMISES, Pair
from persllm.steps import general, materials, pairs, split
from persllm.store import read_json, write_json
from persllm.tracking import train_logger
from persllm.training.adapters import add_stage_tokens, attach, export, inner, load_trainable, verify_export
from persllm.training.batch import Batch, Sequence, collate, completion_log_probs, row_sums
from persllm.training.callbacks import AtomicCheckpointIO, Bar, Keeper
from persllm.training.data import (
    Encoder,
    general_sequences,
    material_sequences,
    pair_sequences,
    prompt_source,
    reanswered,
    sft_sequences,
)
from persllm.training.fused import fuse
from persllm.training.module import Personifier
from persllm.training.schedule import Loader, make_schedule

Unit = tuple[Sequence, ...]
"""A sequence (SFT), or chosen and rejected (DPO)."""


@dataclass
class Setup:
    """A model ready to be trained, and its data."""

    model: Any
    tokenizer: Any
    train: list[Unit]
    dev: list[Unit]
    cut: int


def _sft_setup(ctx: Context, source: str) -> Setup:
    config, tune = ctx.config, ctx.config["tune"]
    card, paragraphs = materials.read(ctx.inputs["materials"])
    tokenizer = load_tokenizer(source, config["model"]["revision"])
    full = tune["adapter"] == "full"
    model = load_base(source, "float32" if full else config["model"]["dtype"], config["model"]["revision"])
    rows = add_stage_tokens(model, tokenizer, card) if tune["temporal_label"] == "token" else []
    model = attach(model, tune, config["model"]["identity"].get("hub", "the base model of this step"), rows)
    encoder = Encoder(tokenizer, config["model"]["max_length"])
    prompt = prompt_source(card, config["recipe"], tune)
    items = split.read(ctx.inputs["split"], "train")
    mixed = sft_sequences(items, prompt, tune, encoder) * tune["repeat"]
    if tune["reanswers"]:
        again = reanswered(items, split.read_reanswers(ctx.inputs["split"]))
        mixed += sft_sequences(again, prompt, tune, encoder)
    if tune["materials"]:
        mixed += material_sequences(split.unheld(ctx.inputs["split"], paragraphs), prompt, encoder)
    if tune["general"]:
        mixed += general_sequences(general.read(ctx.inputs["general"]), encoder)
    dev = sft_sequences(split.read(ctx.inputs["split"], "dev"), prompt, tune, encoder)
    return Setup(model, tokenizer, [(s,) for s in mixed], [(s,) for s in dev], encoder.cut)


def _dpo_setup(ctx: Context, source: str) -> Setup:
    config, tune = ctx.config, ctx.config["tune"]
    card, _ = materials.read(ctx.inputs["materials"])
    model, tokenizer = load_trainable(ctx.inputs["sft"], source, config["model"], tune)
    encoder = Encoder(tokenizer, config["model"]["max_length"])
    prompt = prompt_source(card, config["recipe"], tune)
    train, dev = (pair_sequences(_own_pairs(ctx, part), prompt, tune, encoder) for part in ("train", "dev"))
    return Setup(model, tokenizer, list(train), list(dev), encoder.cut)


def _own_pairs(ctx: Context, part: str) -> list[Pair]:
    """Return the pairs that this step tunes on: its stage's, where stages are tuned apart; see also anti_induction."""
    stage, premises = ctx.config["stage"], ctx.config["tune"]["anti_induction"]
    found = [
        pair
        for pair in pairs.read(ctx.inputs["pairs"], part)
        if stage in (None, pair.stage) and (premises or pair.pattern not in PREMISES)
    ]
    if not found:
        limits = "pairs.dev_limit" if part == "dev" else "pairs.cross_persona_limit or pairs.cross_stage_limit"
        raise UserError(
            f"the {part} part has no pair{f' for stage {stage!r}' if stage else ''}; raise {limits}"
            + (" or set method.tune.dpo.per_stage=false" if stage else "")
        )
    return found


def reference_log_probs(model: Any, units: list[Unit], pad: int, size: int, bf16: bool) -> list[list[float]]:
    """Return each unit's completions' log-probabilities under the model as it stands, in nats.

    The SFT model is the reference, and the policy begins as it: no second copy is needed.
    """
    found = []
    model.eval()
    for start in range(0, len(units), size):
        batch = collate([s for unit in units[start : start + size] for s in unit], pad, 1)
        batch = _to(batch, inner(model).device)
        with torch.no_grad(), torch.autocast(inner(model).device.type, torch.bfloat16, enabled=bf16):
            values, rows = completion_log_probs(inner(model), batch)
            sums = row_sums(values, rows, batch.input_ids.shape[0]).tolist()
        width = len(units[0])
        found += [sums[i : i + width] for i in range(0, len(sums), width)]
    return found


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{k: v if v is None else v.to(device) for k, v in vars(batch).items()})  # type: ignore[arg-type]


def _maker(units: list[Unit], reference: list[list[float]] | None, pad: int) -> Callable[..., Batch]:
    def make(chosen: list[int], step: list[list[int]]) -> Batch:
        sequences = [s for index in chosen for s in units[index]]
        if reference is None:
            weight = sum(len(s.completion) for micro in step for index in micro for s in units[index])
            return collate(sequences, pad, weight)
        return collate(sequences, pad, sum(map(len, step)), [v for index in chosen for v in reference[index]])

    return make


def _references(ctx: Context, setup: Setup, pad: int, size: int, bf16: bool) -> tuple[Any, Any]:
    """Return (and keep in the work folder) the reference log-probabilities of train and dev pairs."""
    if ctx.config["objective"] != "dpo":
        return None, None
    path = ctx.work / "reference.json"
    kept = read_json(path)
    if kept is None:
        kept = [reference_log_probs(setup.model, units, pad, size, bf16) for units in (setup.train, setup.dev)]
        write_json(path, kept)
    return kept[0], kept[1]


def run(ctx: Context) -> None:
    """Train, then write ``adapter/`` (or ``model/``), ``tokenizer/`` and ``curves.jsonl``."""
    config, optim, strategy = ctx.config, ctx.config["optim"], ctx.local["strategy"]
    source = model_source(ctx.local["model_path"], ctx.outputs)
    pl.seed_everything(config["seed"], verbose=False)
    setup = (_sft_setup if config["objective"] == "sft" else _dpo_setup)(ctx, source)
    pad = int(setup.tokenizer.pad_token_id)
    bf16 = config["model"]["dtype"] == "bfloat16"
    longest = max(max(map(len, unit)) for unit in setup.train + setup.dev)
    fuse(inner(setup.model), longest)
    micro = strategy["micro_batch"] if config["objective"] == "sft" else max(1, strategy["micro_batch"] // 2)
    lengths = [max(map(len, unit)) for unit in setup.train]
    schedule = make_schedule(lengths, optim["batch_size"], micro, optim["epochs"], config["seed"])
    val_every = max(1, len(schedule.steps) // optim["validations"]) * schedule.accumulation
    keeper = Keeper(ctx, optim["patience"], strategy["checkpoint_seconds"], val_every, schedule)
    reference, dev_reference = _references(ctx, setup, pad, micro, bf16)
    ctx.say(
        f"{len(setup.train)} training units, {len(setup.dev)} held out, {len(schedule.steps)} steps; "
        f"{schedule.repeated} units repeated to fill the last step; {setup.cut} answers cut at model.max_length"
    )
    whole = [list(range(len(setup.dev)))[i : i + micro] for i in range(0, len(setup.dev), micro)]
    dev = [_maker(setup.dev, dev_reference, pad)(chosen, whole) for chosen in whole]
    module = Personifier(setup.model, config["objective"], optim, len(schedule.steps), schedule.accumulation)
    _fit(ctx, module, Loader(schedule, _maker(setup.train, reference, pad)), dev, keeper, val_every)
    export(setup.model, setup.tokenizer, ctx.out, DTYPES[config["model"]["dtype"]])
    probe = _to(dev[0], inner(setup.model).device)
    drift = verify_export(setup.model, ctx.out, source, config["model"], config["tune"], probe, longest)
    ctx.say(f"export reloaded: largest difference {drift:.2e} nats")
    records.write(ctx.out / "curves.jsonl", keeper.curves)
    ctx.cost |= {
        "train_seconds": round(keeper.seconds, 3),
        "train_tokens": keeper.tokens,
        "trainable_parameters": sum(p.numel() for p in setup.model.parameters() if p.requires_grad),
    }


def _fit(ctx: Context, module: Personifier, loader: Loader, dev: list[Batch], keeper: Keeper, val_every: int) -> None:
    logger = train_logger(ctx)
    os.environ.setdefault("POSSIBLE_USER_WARNINGS", "off")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    bf16 = ctx.config["model"]["dtype"] == "bfloat16"
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=1,
        accumulate_grad_batches=module.accumulation,
        gradient_clip_val=module.optim["clip"],
        precision="bf16-mixed" if bf16 else "32-true",
        val_check_interval=val_every,
        num_sanity_val_steps=0,
        logger=logger or False,
        callbacks=[keeper, Bar(leave=False)] if sys.stderr.isatty() else [keeper],
        enable_progress_bar=sys.stderr.isatty(),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=str(ctx.work),
    )
    resume = str(keeper.checkpoint) if keeper.checkpoint.exists() else None
    ctx.say(f"resume from {Path(resume).name}" if resume else "train from the start")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module.train()
            trainer.fit(module, loader, DataLoader(dev, batch_size=None), ckpt_path=resume, weights_only=True)  # type: ignore[arg-type]
    finally:
        if logger is not None:
            # One W&B run at a time in a process, finished before the next begins.
            logger.experiment.finish()
