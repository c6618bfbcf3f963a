"""What ZeRO sends and holds, per rank: formulas that tests/test_scaling.py checks against DeepSpeed itself.

ZeRO (arXiv 1910.02054, section 7) would reduce gradients to the rank that owns them. DeepSpeed 0.19.8 does other than
the paper, and so do these formulas: stages 1 and 2 all-reduce whole buckets and then gather the weights; stage 1 once
an update, stage 2 after every micro-batch; stage 3 gathers the weights twice a micro-batch, but for those that still
lie there from the forward pass, and leaves small ones whole. ZeRO-Offload (arXiv 2101.06840) is stage 3 whose optimizer
state lies in main memory. Imports no torch.

Measured, on two and four ranks: every byte count and every size that ``sent`` and ``held`` give. Modelled, from stated
speeds: ``seconds``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from persllm.training.zero import STAGES

MASTERS = 12
"""Bytes of optimizer state per trained parameter: a copy of the weight and AdamW's two moments, in float32."""
NODE = 8
"""GPUs of a node."""


@dataclass(frozen=True)
class Zero:
    """A training run under DeepSpeed. Counts are of parameters (elements), or as said."""

    kind: str
    """``zero1``, ``zero2``, ``zero3`` or ``zero3_offload``."""
    ranks: int
    parameters: int
    """All of them, frozen ones too."""
    trained: int
    size: int
    """Bytes of a weight: 2 in bf16."""
    accumulation: int = 1
    """Micro-batches per update."""
    whole: int = 0
    """Stage 3: parameters in tensors small enough to stay whole on every rank."""
    bucket: int = 0
    """Elements of one message of gradients."""
    live: int = 0
    """Stage 3: gathered parameters that may lie on a rank at once."""

    @property
    def stage(self) -> int:
        """ZeRO's stage."""
        return STAGES[self.kind]

    @property
    def shard(self) -> int:
        """Trained parameters whose optimizer state one rank holds."""
        return -(-self.trained // self.ranks)


def of(kind: str, ranks: int, tensors: list[int], trained: list[int], size: int, accumulation: int, zero: Any) -> Zero:
    """Return a run whose small tensors and buckets follow from a DeepSpeed configuration.

    Args:
        kind: see ``Zero``.
        ranks: see ``Zero``.
        tensors: the size of every parameter tensor, frozen or trained, in elements.
        trained: the size of every trained one.
        size: see ``Zero``.
        accumulation: see ``Zero``.
        zero: the configuration's ``zero_optimization``.
    """
    limit = zero.get("stage3_param_persistence_threshold", 0)
    return Zero(
        kind=kind,
        ranks=ranks,
        parameters=sum(tensors),
        trained=sum(trained),
        size=size,
        accumulation=accumulation,
        whole=sum(n for n in tensors if n <= limit) if STAGES[kind] == 3 else 0,
        bucket=zero["reduce_bucket_size"],
        live=zero.get("stage3_max_live_parameters", 0),
    )


def sent(run: Zero) -> dict[str, int]:
    """Return the bytes of the tensors that each collective moves in one optimizer update.

    An all-gather's tensor is its result, a reduce-scatter's its input. What a rank puts on the wire follows from the
    ring: see ``wire``.
    """
    gradients = run.size * run.trained
    if run.stage < 3:
        times = run.accumulation if run.stage == 2 else 1
        return {"all_reduce": gradients * times, "all_gather": gradients}
    shared = run.parameters - run.whole
    # Forward and backward each need all of it; where the one turns into the other, the last layers still lie there.
    # Small weights are updated in shards, too, and gathered once an update.
    gathered = run.accumulation * (2 * shared - min(shared, run.live)) + run.whole
    return {"all_gather": run.size * gathered, "reduce_scatter": gradients * run.accumulation}


def wire(run: Zero) -> float:
    """Return the bytes that each rank sends in one update, by ring algorithms."""
    rounds = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}
    return sum(rounds[name] * size for name, size in sent(run).items()) * (run.ranks - 1) / run.ranks


def held(run: Zero, between: bool = False) -> dict[str, int]:
    """Return the bytes that a rank holds after a backward pass: weights, gradients, optimizer, buffers; and host.

    Args:
        run: the run.
        between: after a micro-batch that does not end its update; stage 1 then holds the gradients whole, and a bucket.
    """
    offload = run.kind == "zero3_offload"
    own = run.size * run.shard
    state = MASTERS * run.shard
    if run.stage == 3:
        shared = run.parameters - run.whole
        weights = run.size * (-(-run.parameters // run.ranks) + run.whole)
        assert shared >= 0
        # Offloaded gradients lie in main memory twice: as they were reduced, and in float32.
        host = state + own + 4 * run.shard if offload else 0
        return {
            "weights": weights,
            "gradients": 0 if offload else own,
            "optimizer": 0 if offload else state,
            "buffers": run.size * run.bucket,
            "host": host,
        }
    whole = between and run.stage == 1
    return {
        "weights": run.size * run.parameters,
        "gradients": run.size * run.trained if whole else own,
        "optimizer": state,
        "buffers": run.size * run.bucket if whole else 0,
        "host": 0,
    }


@dataclass(frozen=True)
class Cluster:
    """The speeds that ``seconds`` takes; none of them is measured here."""

    flops: float = 400e12
    """Of one GPU on bf16 products, as good training code reaches on an H100, in FLOP/s."""
    inside: float = 450e9
    """NVLink of an H100, each way, in bytes/s."""
    across: float = 50e9
    """One 400 Gb/s InfiniBand adapter a node, in bytes/s; eight adapters a node are up to eight times as fast."""
    host: float = 25e9
    """PCIe between a GPU and its node's memory, in bytes/s."""
    host_memory: float = 40e9
    """A GPU's share of its node's memory, which the CPU's AdamW streams through, in bytes/s."""


def seconds(run: Zero, tokens: int, cluster: Cluster) -> tuple[float, float]:
    """Return the seconds of one update: computing, and waiting for what is sent. The two do not overlap here.

    Args:
        run: the run.
        tokens: of one rank's micro-batch.
        cluster: the speeds. Ranks of several nodes form one ring, as fast as its slowest link.
    """
    # Forward 2, backward 4 for each weight and token; frozen weights need no gradient of their own.
    work = 4 * run.parameters + 2 * run.trained
    computing = work * tokens * run.accumulation / cluster.flops
    waiting = wire(run) / (cluster.inside if run.ranks <= NODE else cluster.across)
    if run.kind == "zero3_offload":
        # Gradients go down and weights come up; AdamW reads and writes its state and the gradients.
        waiting += run.size * run.shard * (run.accumulation + 1) / cluster.host
        waiting += (2 * MASTERS + 8) * run.shard / cluster.host_memory
    return computing, waiting
