"""What a field of the configuration may be, where it is one of a few words."""

from __future__ import annotations

from enum import StrEnum


class Recipe(StrEnum):
    """How the prompt speaks of the persona."""

    none = "none"
    brief = "brief"
    name = "name"  # type: ignore[assignment]
    profile = "profile"
    few_shot = "few_shot"
    retrieval = "retrieval"
    long_context = "long_context"
    self_refine = "self_refine"


class Scope(StrEnum):
    """Of which stages a prompt may show paragraphs."""

    life = "life"
    """Of all: plain retrieval, which may tell a stage its own future."""
    past = "past"
    """Of this stage and those before it (arXiv 2405.18027 cuts off what is shown so)."""
    stage = "stage"
    """Of this stage alone."""


class TemporalLabel(StrEnum):
    """How a tuned prompt names the life stage: not at all, in words, or by a trained special token."""

    none = "none"
    text = "text"
    token = "token"


class PairKind(StrEnum):
    """Whose answer a preference pair rejects."""

    cross_persona = "cross_persona"
    """Another persona's."""
    cross_stage = "cross_stage"
    """Another life stage's."""


class Adapter(StrEnum):
    """Which weights are trained."""

    lora = "lora"
    qlora = "qlora"
    """LoRA over a base in four bits (arXiv 2305.14314); needs CUDA and the package bitsandbytes."""
    full = "full"


class DType(StrEnum):
    """Weights' and activations' precision."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class StrategyKind(StrEnum):
    """How training is spread over devices."""

    single = "single"
    ddp = "ddp"
    zero1 = "zero1"
    zero2 = "zero2"
    zero3 = "zero3"
    zero3_offload = "zero3_offload"


class LaunchKind(StrEnum):
    """Where steps run: in this process, or as jobs of a Slurm cluster."""

    local = "local"
    slurm = "slurm"


class AnnotatorKind(StrEnum):
    """Who writes the items."""

    recorded = "recorded"
    local = "local"
    api = "api"


class JudgeKind(StrEnum):
    """Who judges replies."""

    none = "none"
    local = "local"
    api = "api"


class TrackMode(StrEnum):
    """W&B's modes."""

    offline = "offline"
    online = "online"
    disabled = "disabled"
