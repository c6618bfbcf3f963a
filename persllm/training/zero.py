"""The DeepSpeed configuration of a strategy: a pure function. Imports neither torch nor deepspeed."""

from __future__ import annotations

from typing import Any

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}
"""ZeRO's stage (arXiv 1910.02054) of each strategy that is DeepSpeed's."""

PERSISTENT = 10
"""Under ZeRO 3, weights of at most this many hidden sizes (norms, biases) stay whole on every rank: gathering them
costs a message each and saves nothing."""
BUCKET = 2**26
"""Elements that are reduced or gathered in one message, at most."""


def is_zero(strategy: dict[str, Any]) -> bool:
    """Return whether DeepSpeed trains."""
    return strategy["kind"] in STAGES


def is_sharded(strategy: dict[str, Any]) -> bool:
    """Return whether no rank holds the weights whole (ZeRO 3)."""
    return STAGES.get(strategy["kind"]) == 3


def zero_config(kind: str, hidden: int, dtype: str, micro_batch: int, clip: float) -> dict[str, Any]:
    """Return what ``deepspeed.initialize`` gets.

    Accumulation is not in it: Lightning's Trainer adds its own, and refuses one that stands here.

    Args:
        kind: ``zero1``, ``zero2``, ``zero3`` or ``zero3_offload`` (arXiv 2101.06840, optimizer state in main memory).
        hidden: the model's hidden size, by which messages are sized.
        dtype: of weights and activations; the optimizer's own copies are float32.
        micro_batch: sequences per forward pass and rank.
        clip: the largest norm of the gradient.
    """
    stage = STAGES[kind]
    bucket = min(BUCKET, max(2**16, hidden * hidden))
    zero: dict[str, Any] = {
        "stage": stage,
        "contiguous_gradients": True,
        "overlap_comm": False,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": bucket * 9 // 10,
            "stage3_param_persistence_threshold": PERSISTENT * hidden,
            "stage3_max_live_parameters": 4 * bucket,
            "stage3_max_reuse_distance": 4 * bucket,
        }
    if kind == "zero3_offload":
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "zero_optimization": zero,
        # torch's own AdamW steps the shards: the same arithmetic in every strategy, and nothing to compile.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == "bfloat16"},
        "gradient_clipping": clip,
        "train_micro_batch_size_per_gpu": micro_batch,
    }
