"""The device memory of a training step, computed before anything is loaded: a pure function. Imports no torch.

Weights, gradients and optimizer state follow ZeRO (arXiv 1910.02054, section 3) with what DeepSpeed really holds (see
``scaling``). Activations are counted from what autograd keeps of the layers as ``adapters`` and ``fused`` build them,
and checked against it in tests/test_estimate.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from persllm.architecture import Architecture
from persllm.errors import UserError
from persllm.training.zero import STAGES, zero_config

GIB = 2**30
SHARE = 0.9
"""How much of a device's memory an estimate may fill: the rest is for the CUDA context, which no tensor is part of, and
for memory that the allocator holds in pieces too small to use."""
WORKSPACE = 64 * 2**20
"""Bytes that cuBLAS takes for its scratch on a GPU, which torch counts as allocated."""
PROCESS = 900 * 10**6
"""Bytes of a training process on a CPU before it holds a model: the interpreter and its libraries."""
_SHORT = 512
"""Up to this many tokens ``fused`` computes attention on a CPU as matrix products."""
_LAYER = 2.5
"""What the backward pass of one layer takes at once beside what was kept, in MLP activations: seen 1.6 to 2.7."""


@dataclass(frozen=True)
class Estimate:
    """Bytes that one rank holds of its device at the worst moment, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    """AdamW's two moments, and DeepSpeed's float32 copies of weights in bf16."""
    buffers: int
    """What is reduced or gathered between ranks."""
    activations: int
    logits: int
    working: int
    """What is computed with: one layer's gradients, or the optimizer's scratch; and the libraries' own."""
    moment: str
    """When: in the ``backward`` pass, or in the optimizer's ``step``."""
    process: int = 0
    """On a CPU: the process itself."""
    host: int = 0
    """Bytes of main memory beside the device's, where the optimizer is offloaded; in no total."""

    @property
    def total(self) -> int:
        """The sum of the parts on the device, in bytes."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Return the parts that make the total, in bytes."""
        return {name: size for name, size in asdict(self).items() if name not in ("moment", "host")}


@dataclass(frozen=True)
class _Kind:
    """How a run trains, in numbers."""

    ranks: int
    stage: int
    """Of ZeRO; 0 for none."""
    lora: bool
    compute: int
    """Bytes of an activation: 2 in bf16."""
    parameters: int
    trained: int
    whole: int
    """Parameters that no rank shares out: all but under ZeRO 3."""
    whole_trained: int
    fused: bool
    wide_residual: bool
    """The stream between layers is float32 (full tuning under autocast)."""


def _kind(arch: Architecture, tune: dict[str, Any], strategy: dict[str, Any], dtype: str) -> _Kind:
    stage = STAGES.get(strategy["kind"], 0)
    lora = tune["adapter"] != "full"
    rank = tune["lora"]["rank"] if lora else 0
    trained = arch.lora_tensors(rank) if lora else arch.tensors()
    frozen = arch.tensors() if lora else []
    limit = persistence(arch, strategy)
    return _Kind(
        ranks=strategy["devices"] * strategy["nodes"],
        stage=stage,
        lora=lora,
        compute=2 if dtype == "bfloat16" else 4,
        parameters=sum(trained) + sum(frozen),
        trained=sum(trained),
        whole=sum(size for size in trained + frozen if size <= limit),
        whole_trained=sum(size for size in trained if size <= limit),
        fused=lora and stage < 3 and not tune["lora"]["dropout"],
        wide_residual=not lora and not stage,
    )


def persistence(arch: Architecture, strategy: dict[str, Any]) -> int:
    """Return up to how many elements a tensor stays whole on every rank: under ZeRO 3 small ones, else any."""
    stage = STAGES.get(strategy["kind"], 0)
    if stage < 3:
        return arch.vocab * arch.hidden + arch.body
    zero = zero_config(strategy["kind"], arch.hidden, "bfloat16", 1, 1.0)["zero_optimization"]
    return int(zero["stage3_param_persistence_threshold"])


def layer_bytes(arch: Architecture, kind: _Kind, rank: int, tokens: int, eager: bool) -> float:
    """Return what autograd keeps of one layer, in bytes for each token.

    Counted tensor by tensor (see tests/test_estimate.py): the MLP keeps gate, its SiLU, up and their product; attention
    keeps query, key and value (repeated for each head, as the mask of padding demands) and its result; each norm its
    input; each LoRA pair the product between its matrices. PEFT's own layers keep further casts of their inputs.

    Args:
        arch: the base model.
        kind: how it is trained.
        rank: LoRA's; 0 where all weights are trained.
        tokens: of one sequence, as attention's mask (or matrix) has a row of that length for each token.
        eager: attention as matrix products, which keep the whole matrix.
    """
    c, d, wide = kind.compute, arch.hidden, arch.heads * arch.head_dim
    mixed = c == 2 and not kind.stage
    kept = c * (4 * arch.intermediate + 4 * wide + 7 * rank)
    if eager:
        kept += arch.heads * tokens * (6 if c == 2 else 4)
    else:
        kept += c * tokens + 4 * arch.heads
    if kind.fused:
        return kept + 4 * d * c + 8
    # Two norms compute in float32; full tuning keeps what their weights are multiplied with, too.
    kept += 2 * d * 4 + 2 * d * (0 if kind.lora else 4 if kind.wide_residual else c) + 8
    # Each of query, key, value, gate and up casts its input anew under autocast; else two inputs are shared.
    kept += (5 if mixed else 2) * d * c
    return kept + (wide * c if kind.lora and mixed else 0)


def estimate(
    arch: Architecture,
    tune: dict[str, Any],
    objective: str,
    strategy: dict[str, Any],
    dtype: str,
    rows: int,
    tokens: int,
    completion_tokens: int | None = None,
    *,
    accumulation: int = 2,
    on_cpu: bool = False,
) -> Estimate:
    """Return the memory that one rank needs, in bytes.

    Args:
        arch: the base model.
        tune: the step's section of that name (adapter and lora).
        objective: ``sft`` or ``dpo``; both keep the same activations, as DPO's reference is computed before.
        strategy: the step's section of that name.
        dtype: ``float32`` or ``bfloat16``.
        rows: sequences of one micro-batch (a pair is two).
        tokens: of the longest sequence.
        completion_tokens: tokens with loss of the whole micro-batch; None for all, the upper bound.
        accumulation: micro-batches per optimizer step; with one, gradients come only as activations go.
        on_cpu: count the process, and take attention as a CPU computes it.
    """
    kind = _kind(arch, tune, strategy, dtype)
    rank = tune["lora"]["rank"] if kind.lora else 0
    eager = on_cpu and kind.fused and tokens <= _SHORT
    activations = round(arch.layers * rows * tokens * layer_bytes(arch, kind, rank, tokens, eager))
    activations += _casts(arch, kind) + 2 * rows * tokens * arch.hidden * 4
    positions = rows * tokens if completion_tokens is None else completion_tokens
    layer = round(_LAYER * rows * tokens * arch.intermediate * kind.compute)
    common = {
        "weights": _weights(arch, tune, kind),
        "optimizer": _optimizer(kind) if strategy["kind"] != "zero3_offload" else 0,
        "buffers": _buffers(arch, kind, strategy),
        "process": PROCESS if on_cpu else 0,
        "host": _optimizer(kind) + 4 * _share(kind) if strategy["kind"] == "zero3_offload" else 0,
    }
    workspace = 0 if on_cpu else WORKSPACE
    backward = Estimate(
        gradients=_gradients(kind, accumulation),
        activations=activations,
        # Kept: the softmax. Beside it, for a moment: the gradients by it and by the logits, all in float32.
        logits=12 * positions * arch.vocab,
        working=max(0, layer - 8 * positions * arch.vocab) + workspace,
        moment="backward",
        **common,
    )
    step = Estimate(
        gradients=_gradients(kind, 2), activations=0, logits=0, working=_step(kind) + workspace, moment="step", **common
    )
    return max(backward, step, key=lambda one: one.total)


def _share(kind: _Kind) -> int:
    """Return how many trained parameters' optimizer state a rank holds."""
    return -(-kind.trained // kind.ranks) if kind.stage else kind.trained


def _weights(arch: Architecture, tune: dict[str, Any], kind: _Kind) -> int:
    base = kind.parameters - kind.trained
    if kind.stage == 3:
        return kind.compute * (kind.whole + -(-(kind.parameters - kind.whole) // kind.ranks))
    trained = kind.trained * (kind.compute if kind.stage else 4)
    if tune["adapter"] != "qlora":
        return trained + base * kind.compute
    # Four bits a weight of the body, and one float32 scale per 64 weights, itself in eight bits (arXiv 2305.14314).
    return trained + round(arch.body * (0.5 + 1 / 64 + 4 / (64 * 256))) + (base - arch.body) * kind.compute


def _casts(arch: Architecture, kind: _Kind) -> int:
    """Return the copies in compute precision of trained weights that a forward pass makes and the backward keeps."""
    if kind.stage or kind.compute == 4:
        return 4 * kind.trained // 2 if kind.fused else 0
    return 2 * (kind.trained if kind.lora else arch.body + arch.vocab * arch.hidden)


def _gradients(kind: _Kind, accumulation: int) -> int:
    if not kind.stage:
        return 4 * kind.trained if accumulation > 1 else 0
    return kind.compute * (kind.trained if kind.stage == 1 else _share(kind))


def _optimizer(kind: _Kind) -> int:
    masters = 4 if kind.stage else 0
    return (8 + masters) * _share(kind)


def _buffers(arch: Architecture, kind: _Kind, strategy: dict[str, Any]) -> int:
    if not kind.stage:
        return 4 * kind.trained if kind.ranks > 1 else 0
    zero = zero_config(strategy["kind"], arch.hidden, "bfloat16", 1, 1.0)["zero_optimization"]
    bucket = kind.compute * zero["reduce_bucket_size"]
    if kind.stage < 3:
        return bucket
    live = zero["stage3_max_live_parameters"] + zero["stage3_prefetch_bucket_size"]
    return bucket + kind.compute * min(kind.parameters - kind.whole, live)


def _step(kind: _Kind) -> int:
    """Return the optimizer step's scratch: AdamW's denominators, and DeepSpeed's gradients in float32."""
    return (8 if kind.stage else 4) * _share(kind)


def largest_micro_batch(
    arch: Architecture,
    tune: dict[str, Any],
    objective: str,
    strategy: dict[str, Any],
    dtype: str,
    tokens: int,
    batch_size: int,
    memory: int,
    *,
    completion_share: float = 1.0,
    on_cpu: bool = False,
) -> int:
    """Return the largest micro-batch, in sequences, whose estimate fits into ``SHARE`` of a device's memory.

    Args:
        arch: the base model.
        tune: see ``estimate``.
        objective: ``sft``, or ``dpo`` whose unit is two sequences.
        strategy: see ``estimate``.
        dtype: see ``estimate``.
        tokens: of the longest sequence.
        batch_size: units per optimizer step over all ranks.
        memory: of one device, in bytes.
        completion_share: of the tokens, those with loss.
        on_cpu: see ``estimate``.

    Raises:
        UserError: not even one unit fits; the text names what would help.
    """
    each = 2 if objective == "dpo" else 1
    share = max(1, batch_size // (strategy["devices"] * strategy["nodes"]))
    needs = 0
    for micro in (size for size in range(share, 0, -1) if share % size == 0):
        rows = micro * each
        needs = estimate(
            arch,
            tune,
            objective,
            strategy,
            dtype,
            rows,
            tokens,
            round(rows * tokens * completion_share),
            accumulation=share // micro,
            on_cpu=on_cpu,
        ).total
        if needs <= SHARE * memory:
            return rows
    raise UserError(
        f"training needs {needs / GIB:.1f} GiB on each device even with the smallest micro-batch, and one has "
        f"{memory / GIB:.1f} GiB, of which {SHARE:.0%} may be filled; {_remedies(tune, strategy)}"
    )


def _remedies(tune: dict[str, Any], strategy: dict[str, Any]) -> str:
    found = ["a lower model.max_length"]
    if tune["adapter"] == "full":
        found.append("method.tune.adapter=lora")
    if STAGES.get(strategy["kind"]) != 3:
        found.append("strategy=zero3 on several devices")
    else:
        found.append("more strategy.devices or strategy.nodes")
        found += ["strategy=zero3_offload"] * (strategy["kind"] == "zero3")
    return f"try {', '.join(found[:-1])} or {found[-1]}"
