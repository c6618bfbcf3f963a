"""The table of ``persllm plan --scaling``: what ZeRO holds, sends and waits for, by model size and number of GPUs.

Memory by ``estimate``, bytes and seconds by ``scaling``. Imports no torch.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from persllm import geometry
from persllm.architecture import Architecture
from persllm.errors import UserError
from persllm.training import scaling
from persllm.training.estimate import GIB, SHARE, estimate, kind_of, largest_micro_batch

MODELS = {
    "1B": Architecture(2048, 8192, 16, 32, 8, 64, 128256, True),
    "3B": Architecture(3072, 8192, 28, 24, 8, 128, 128256, True),
    "8B": Architecture(4096, 14336, 32, 32, 8, 128, 128256, False),
    "13B": Architecture(5120, 13824, 40, 40, 40, 128, 32000, False),
    "34B": Architecture(8192, 22016, 48, 64, 8, 128, 32000, False),
    "70B": Architecture(8192, 28672, 80, 64, 8, 128, 128256, False),
}
"""The shapes of Llama 3.2 1B and 3B, Llama 3.1 8B, Llama 2 13B, Code Llama 34B and Llama 3.1 70B."""
GPUS = (8, 64, 256, 1024)
MEMORY = 80 * GIB
SEQUENCES, TOKENS = 16, 1024
"""Of each GPU and update; half of the tokens carry loss."""
TUNES: dict[str, dict[str, Any]] = {
    "full": {"adapter": "full", "lora": {"rank": 16, "dropout": 0.0}},
    "LoRA": {"adapter": "lora", "lora": {"rank": 16, "dropout": 0.0}},
}
KINDS = {
    "zero1": "the optimizer's state in shards",
    "zero2": "gradients in shards, too",
    "zero3": "weights in shards, too",
    "zero3_offload": "the optimizer's state in main memory",
}


def cell(arch: Architecture, tune: dict[str, Any], kind: str, gpus: int) -> tuple[float, bool, float, float]:
    """Return GiB held, whether they fit, GiB that each rank sends an update, and the share of time spent waiting."""
    nodes = max(1, gpus // scaling.NODE)
    strategy = {"kind": kind, "devices": gpus // nodes, "nodes": nodes}
    batch = SEQUENCES * gpus
    try:
        micro = largest_micro_batch(
            arch, tune, "sft", strategy, "bfloat16", TOKENS, batch, MEMORY, completion_share=0.5
        )
    except UserError:
        micro = 1
    cut = geometry.cut(strategy | {"micro_batch": micro}, batch, "sft")
    needs = estimate(
        arch,
        tune,
        "sft",
        strategy,
        "bfloat16",
        micro,
        TOKENS,
        micro * TOKENS // 2,
        accumulation=cut.accumulation,
    ).total
    run = kind_of(arch, tune, strategy, "bfloat16", cut.accumulation).zero
    assert run is not None
    computing, waiting = scaling.seconds(run, micro * TOKENS, scaling.Cluster())
    return needs / GIB, needs <= SHARE * MEMORY, scaling.wire(run) / GIB, waiting / (computing + waiting)


def _notes() -> Iterator[str]:
    speeds = scaling.Cluster()
    yield (
        f"Each GPU trains {SEQUENCES} sequences of {TOKENS:,} tokens an update, half of them answers, in the largest "
        f"micro-batch that fits into {SHARE:.0%} of {MEMORY // GIB} GiB. Weights and activations in bf16, no "
        f"activation is computed twice; LoRA has rank 16."
    )
    yield (
        "GiB: held by one GPU; ! where not even one sequence fits. sent: GiB that one GPU puts on the wire an update. "
        "wait: share of the time in which it computes nothing."
    )
    yield (
        f"Measured against DeepSpeed 0.19.8 on 2 and 4 ranks: bytes sent (within 2 %) and weights, gradients and "
        f"optimizer state held (5 %). Modelled, not measured: activations on a GPU, and all time: "
        f"{speeds.flops / 1e12:.0f} TFLOP/s a GPU, NVLink {speeds.inside / 1e9:.0f} GB/s inside a node of "
        f"{scaling.NODE}, one 400 Gb/s InfiniBand adapter a node ({speeds.across / 1e9:.0f} GB/s) across, PCIe "
        f"{speeds.host / 1e9:.0f} GB/s; nothing overlaps. More adapters or overlap wait less; small messages on many "
        f"GPUs wait more."
    )


def _row(name: str, tune: str, kind: str) -> str:
    text = f"{name if tune == 'full' else '':<4}{tune:<4}"
    for gpus in GPUS:
        held, fits, sent, wait = cell(MODELS[name], TUNES[tune], kind, gpus)
        size = f"{sent:.2f}" if sent < 10 else f"{sent:,.0f}"
        text += f"{held:>7,.0f}{' ' if fits else '!'}{size:>5}{wait:>5.0%}"
    return text.rstrip()


def table() -> Iterator[str]:
    """Yield the table's lines, at most 80 columns wide: a block for each strategy, a row for each model and tuning."""
    for note in _notes():
        yield from textwrap.wrap(note, 80)
        yield ""
    for kind, does in KINDS.items():
        yield f"{kind}: {does}"
        yield (" " * 8 + "".join(f"{f'{gpus:,} GPUs':>18}" for gpus in GPUS)).rstrip()
        yield "model   " + "    GiB  sent wait" * len(GPUS)
        for name in MODELS:
            for tune in TUNES:
                yield _row(name, tune, kind)
        yield ""
