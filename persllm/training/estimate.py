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
from persllm.training import scaling
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
class Kind:
    """How a run trains, in numbers."""

    ranks: int
    stage: int
    """Of ZeRO; 0 for none."""
    lora: bool
    rank: int
    """LoRA's; 0 for none."""
    compute: int
    """Bytes of an activation: 2 in bf16."""
    parameters: int
    trained: int
    fused: bool
    zero: scaling.Zero | None

    @property
    def mixed(self) -> bool:
        """Whether autocast computes in bf16 what is kept in float32; DeepSpeed keeps bf16 itself."""
        return self.compute == 2 and not self.stage


def kind_of(
    arch: Architecture, tune: dict[str, Any], strategy: dict[str, Any], dtype: str, accumulation: int = 1
) -> Kind:
    """Return how a step trains, from its sections; see ``estimate``."""
    stage = STAGES.get(strategy["kind"], 0)
    lora = tune["adapter"] != "full"
    rank = tune["lora"]["rank"] if lora else 0
    trained = arch.lora_tensors(rank) if lora else arch.tensors()
    tensors = trained + arch.tensors() if lora else trained
    ranks = strategy["devices"] * strategy["nodes"]
    size = 2 if dtype == "bfloat16" else 4
    zero = None
    if stage:
        config = zero_config(strategy["kind"], arch.hidden, dtype, 1, 1.0)["zero_optimization"]
        zero = scaling.of(strategy["kind"], ranks, tensors, trained, size, accumulation, config)
    fused = lora and stage < 3 and not tune["lora"]["dropout"]
    return Kind(ranks, stage, lora, rank, size, sum(tensors), sum(trained), fused, zero)


def _layer_bytes(arch: Architecture, kind: Kind, tokens: int, eager: bool) -> int:
    """Return what autograd keeps of one layer, in bytes for each token.

    Counted tensor by tensor (see tests/test_estimate.py): the MLP keeps gate, its SiLU, up and their product; attention
    keeps query, key and value (repeated for each head, as the mask of padding demands) and its result; each norm its
    input; each LoRA pair the product between its matrices. PEFT's own layers keep further casts of their inputs.

    Args:
        arch: the base model.
        kind: how it is trained.
        tokens: of one sequence, as attention's mask (or matrix) has a row of that length for each token.
        eager: attention as matrix products, which keep the whole matrix.
    """
    c, d, wide = kind.compute, arch.hidden, arch.heads * arch.head_dim
    kept = c * (4 * arch.intermediate + 4 * wide + 7 * kind.rank)
    if eager:
        kept += arch.heads * tokens * (6 if c == 2 else 4)
    else:
        kept += c * tokens + 4 * arch.heads
    if kind.fused:
        return kept + 4 * d * c + 8
    # Two norms compute in float32; full tuning keeps what their weights are multiplied with, too.
    kept += 2 * d * 4 + 2 * d * (0 if kind.lora else 4 if kind.mixed else c) + 8
    # Each of query, key, value, gate and up casts its input anew under autocast; else two inputs are shared.
    kept += (5 if kind.mixed else 2) * d * c
    return kept + (wide * c if kind.lora and kind.mixed else 0)


def activation_bytes(arch: Architecture, kind: Kind, rows: int, tokens: int, on_cpu: bool = False) -> int:
    """Return what autograd keeps of a forward pass up to the logits, in bytes."""
    eager = on_cpu and kind.fused and tokens <= _SHORT
    layers = arch.layers * rows * tokens * _layer_bytes(arch, kind, tokens, eager)
    # The last norm's input, and the result that the head reads.
    return layers + _casts(arch, kind) + 2 * rows * tokens * arch.hidden * 4


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
    kind = kind_of(arch, tune, strategy, dtype, accumulation)
    positions = rows * tokens if completion_tokens is None else completion_tokens
    layer = round(_LAYER * rows * tokens * arch.intermediate * kind.compute)
    state = _plain(arch, tune, kind) if kind.zero is None else _sharded(kind.zero)
    common = {name: state[name] for name in ("weights", "optimizer", "buffers", "host")}
    common["process"] = PROCESS if on_cpu else 0
    workspace = 0 if on_cpu else WORKSPACE
    backward = Estimate(
        gradients=state["gradients"] if kind.stage or accumulation > 1 else 0,
        activations=activation_bytes(arch, kind, rows, tokens, on_cpu),
        # Kept: the softmax. Beside it, for a moment: the gradients by it and by the logits, all in float32.
        logits=12 * positions * arch.vocab,
        working=max(0, layer - 8 * positions * arch.vocab) + workspace,
        moment="backward",
        **common,
    )
    step = Estimate(
        gradients=state["gradients"],
        activations=0,
        logits=0,
        working=state["step"] + workspace,
        moment="step",
        **common,
    )
    return max(backward, step, key=lambda one: one.total)


def _plain(arch: Architecture, tune: dict[str, Any], kind: Kind) -> dict[str, int]:
    """Return what one device, or each rank of DDP, holds of weights and their state."""
    base = kind.parameters - kind.trained
    weights = 4 * kind.trained + base * kind.compute
    if tune["adapter"] == "qlora":
        # Four bits a weight of the body, and one scale per 64 weights, itself in eight bits (arXiv 2305.14314).
        weights += round(arch.body * (0.5 + 1 / 64 + 4 / (64 * 256))) - arch.body * kind.compute
    return {
        "weights": weights,
        "gradients": 4 * kind.trained,
        "optimizer": 8 * kind.trained,
        # DDP reduces gradients in buckets that are copies of them.
        "buffers": 4 * kind.trained if kind.ranks > 1 else 0,
        "host": 0,
        # AdamW's denominators.
        "step": 4 * kind.trained,
    }


def _sharded(zero: scaling.Zero) -> dict[str, int]:
    """Return what DeepSpeed holds in the middle of an update, what it gathers included."""
    state = scaling.held(zero, between=zero.accumulation > 1)
    buffers = zero.size * zero.bucket
    if zero.stage == 3:
        buffers += zero.size * min(zero.parameters - zero.whole, zero.live)
    # Gradients in float32, and AdamW's denominators.
    step = 0 if zero.kind == "zero3_offload" else 8 * zero.shard
    return state | {"buffers": buffers, "step": step}


def _casts(arch: Architecture, kind: Kind) -> int:
    """Return the copies of trained weights in compute precision that a forward pass makes and the backward keeps."""
    if kind.mixed:
        return 2 * (kind.trained if kind.lora else arch.body + arch.vocab * arch.hidden)
    # The fused form scales the second matrix of each pair, about half of the adapter.
    return kind.compute * kind.trained // 2 if kind.fused else 0


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
