"""A model ready to be trained, its data, and what DPO compares with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from persllm.choices import PairKind
from persllm.errors import UserError
from persllm.execute import Context
from persllm.language_model import load_base, load_tokenizer
from persllm.records import PREMISES, GeneralItem, Pair
from persllm.steps import general, materials, pairs, split
from persllm.training import distributed
from persllm.training.adapters import add_stage_tokens, attach, load_trainable, trained_dtype
from persllm.training.batch import Batch, Sequence, collate, row_sums
from persllm.training.data import (
    Encoder,
    general_sequences,
    general_share,
    material_sequences,
    pair_sequences,
    prompt_source,
    reanswered,
    sft_sequences,
)

Unit = tuple[Sequence, ...]
"""A sequence (SFT), or chosen and rejected (DPO)."""
Forward = Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]
"""From a batch to the log-probabilities of its loss tokens and their rows."""


@dataclass
class Setup:
    """A model ready to be trained, and its data."""

    model: Any
    tokenizer: Any
    train: list[Unit]
    dev: list[Unit]
    cut: int
    """Answers cut at model.max_length."""


def prepare(ctx: Context, source: str, rounded: bool) -> Setup:
    """Load a train step's model and data.

    Args:
        ctx: the step.
        source: of the base model, see ``model_source``.
        rounded: keep adapters in the base's own type, as DeepSpeed wants all weights of one type.
    """
    return (_sft if ctx.config["objective"] == "sft" else _dpo)(ctx, source, rounded)


def _sft(ctx: Context, source: str, rounded: bool) -> Setup:
    config, tune = ctx.config, ctx.config["tune"]
    card, paragraphs = materials.read(ctx.inputs["materials"])
    tokenizer = load_tokenizer(source, config["model"]["revision"])
    model = load_base(
        source,
        trained_dtype(config["model"], tune, rounded),
        config["model"]["revision"],
        four_bit=tune["adapter"] == "qlora",
    )
    rows = add_stage_tokens(model, tokenizer, card) if tune["temporal_label"] == "token" else []
    # Anew, as loading may have drawn from it, more or less by strategy.
    torch.manual_seed(config["seed"])
    name = config["model"]["identity"].get("hub", "the base model of this step")
    model = attach(model, tune, name, rows, rounded)
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
        mixed += general_sequences(_general(ctx, len(mixed)), encoder)
    dev = sft_sequences(split.read(ctx.inputs["split"], "dev"), prompt, tune, encoder)
    return Setup(model, tokenizer, [(s,) for s in mixed], [(s,) for s in dev], encoder.cut)


def _general(ctx: Context, persona: int) -> list[GeneralItem]:
    """Return the general items to mix with so many persona sequences; where a ratio is set, their number is told."""
    ratio = ctx.config["general"]["ratio"]
    items, asked = general_share(general.read(ctx.inputs["general"]), ratio, persona)
    if ratio is not None and distributed.rank() == 0:
        ctx.cost |= {"general_items": len(items), "general_items_asked": asked}
        short = "; raise general.limit, or give more data: none is repeated" if len(items) < asked else ""
        ctx.say(f"{len(items)} general items where general.ratio={ratio:g} asks for {asked} ({persona} x ratio){short}")
    return items


def _dpo(ctx: Context, source: str, rounded: bool) -> Setup:
    config, tune = ctx.config, ctx.config["tune"]
    card, _ = materials.read(ctx.inputs["materials"])
    model, tokenizer = load_trainable(ctx.inputs["sft"], source, config["model"], tune, rounded)
    encoder = Encoder(tokenizer, config["model"]["max_length"])
    prompt = prompt_source(card, config["recipe"], tune)
    train, dev = (pair_sequences(_own_pairs(ctx, part), prompt, tune, encoder) for part in ("train", "dev"))
    return Setup(model, tokenizer, list(train), list(dev), encoder.cut)


def _own_pairs(ctx: Context, part: str) -> list[Pair]:
    """Return the pairs that this step tunes on: of its kinds, and of its stage where stages are tuned apart.

    See also ``anti_induction``.
    """
    stage, premises = ctx.config["stage"], ctx.config["tune"]["anti_induction"]
    kinds = ctx.config["optim"].get("pairs", list(PairKind))
    found = [
        pair
        for pair in pairs.read(ctx.inputs["pairs"], part)
        if stage in (None, pair.stage) and pair.kind in kinds and (premises or pair.pattern not in PREMISES)
    ]
    if not found:
        limits = "pairs.dev_limit" if part == "dev" else " or ".join(f"pairs.{kind}_limit" for kind in kinds)
        where = f" for stage {stage!r}" if stage else ""
        raise UserError(
            f"the {part} part has no pair of {' or '.join(kinds)}{where}; raise {limits}"
            + (" or set method.tune.dpo.per_stage=false" if stage else "")
        )
    return found


@dataclass
class Batches:
    """Makes batches of units; for DPO with the reference's log-probabilities, once they are known.

    Args:
        units: what is trained or validated on.
        pad: the id that fills rows up.
        size: units per micro-batch.
    """

    units: list[Unit]
    pad: int
    size: int
    reference: list[list[float]] | None = field(default=None)
    """Per unit: each of its completions' log-probability under the reference, in nats."""

    def make(self, chosen: list[int], step: list[list[int]]) -> Batch:
        """Return a micro-batch of an optimizer step."""
        sequences = [s for index in chosen for s in self.units[index]]
        if self.reference is None:
            weight = sum(len(s.completion) for micro in step for index in micro for s in self.units[index])
            return collate(sequences, self.pad, weight)
        known = [v for index in chosen for v in self.reference[index]]
        return collate(sequences, self.pad, sum(map(len, step)), known)

    def own(self) -> list[tuple[list[int], bool]]:
        """Return this rank's micro-batches of all units, in order, and whether each counts.

        Ranks get equally many, for they must compute in step: the first one stands in where there is none.
        """
        all_of = [list(range(len(self.units)))[i : i + self.size] for i in range(0, len(self.units), self.size)]
        turns = -(-len(all_of) // distributed.world())
        places = [turn * distributed.world() + distributed.rank() for turn in range(turns)]
        return [(all_of[place], True) if place < len(all_of) else (all_of[0], False) for place in places]

    def dev(self) -> list[Batch]:
        """Return this rank's batches for validation; one that only keeps step has the denominator 0."""
        found = []
        for chosen, counts in self.own():
            batch = self.make(chosen, [chosen])
            found.append(batch if counts else Batch(**{**vars(batch), "denominator": torch.tensor(0.0)}))
        return found

    def refer(self, forward: Forward) -> None:
        """Compute the reference: the model as it stands, which is the policy before its first step.

        Every rank takes a share and ends with all.
        """
        mine: list[list[list[float]]] = []
        for chosen, _ in self.own():
            sequences = [s for index in chosen for s in self.units[index]]
            values, rows = forward(collate(sequences, self.pad, 1))
            sums = row_sums(values, rows, len(sequences)).tolist()
            width = len(self.units[0])
            mine.append([sums[i : i + width] for i in range(0, len(sums), width)])
        shares = distributed.collect(mine)
        turns = [share[turn] for turn in range(len(mine)) for share in shares]
        self.reference = [unit for micro in turns for unit in micro][: len(self.units)]
