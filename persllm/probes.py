"""Probes: conversations with which an arm is examined beyond the held-out items. Imports no torch.

A metric of persllm.metrics that examines an arm so is a module with

    VERSION: int                                  raised when its probes or its scoring change
    NEEDS: tuple[str, ...]                        of ``EVIDENCE``: what its scoring reads beside its own probes
    probes(subject: Subject) -> list[Probe]       what the arm is asked; absent where nothing is
    score(evidence: Evidence) -> Scored           what comes of it

Step probe asks, step score scores: a change in scoring asks nothing anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from persllm.metrics import Likelihood
from persllm.packs import Card
from persllm.records import Generation, Item, Material, Reanswer, Telling, read_json_lines
from persllm.transcripts import Opinion, Turn

DATA = Path(__file__).parent / "metrics" / "data"

EVIDENCE = ("prior", "others", "paragraphs", "replies", "conversations")
"""``prior``: the unpersonified base model's answers to the same probes; ``others``: the same arm's as the study's other
personas; ``paragraphs``: every persona's materials; ``replies``: the arm's replies to the held-out items;
``conversations``: the persona's with others and with its other stages, and the paragraphs of those whom it meets."""

FRAMES = ("role", "neutral", "raw")
"""``role``: the arm under its own prompt; ``neutral``: its weights under the prompt of no persona, where nothing is
analysed first; ``raw``: its weights reading plain text, without a chat's form."""

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A conversation that an arm is led through: what the user says is fixed, what the arm says is its own.

    Args:
        id: unique among a persona's probes of one metric.
        stage: at which the arm speaks.
        cluster: what intervals resample: probes that share a question or a paragraph share it.
        turns: what the user says; the arm replies to each.
        options: for each turn, answers whose log-likelihood is taken before the arm's own reply; no entry, or an empty
            one, for none.
        closing: whether the arm also replies to the last turn. Where only its options matter, that is not needed (an
            arm that analyses first still analyses).
        prefill: words that the reply to the last turn is made to begin with; they count as part of it.
        frame: one of ``FRAMES``: who is asked.
        samples: how many times the conversation is held. One is decoded as the arm's other replies are; several are
            drawn at ``temperature``.
        temperature: of several samples.
        seen: what scoring must know of the probe; the arm never sees it.
    """

    id: str
    stage: str
    cluster: str
    turns: list[str]
    options: list[list[str]] = field(default_factory=list)
    closing: bool = True
    prefill: str = ""
    frame: str = "role"
    samples: int = 1
    temperature: float = 0.7
    seen: Row = field(default_factory=dict)

    def at(self, turn: int) -> list[str]:
        """Return the options of a turn (from 0)."""
        return self.options[turn] if turn < len(self.options) else []


class Told(NamedTuple):
    """A probe and what the arm made of it in one sample."""

    probe: Probe
    telling: Telling

    @property
    def reply(self) -> str | None:
        """The reply to the last turn; None where there is none."""
        return self.telling.replies[-1] if self.telling.replies else None

    def likelihoods(self, turn: int = -1) -> list[Likelihood]:
        """Return the likelihood of each option of a turn, by default of the last one; empty where none was taken."""
        return [Likelihood(total, int(tokens)) for total, tokens in self.telling.likelihoods[turn]]


@dataclass(frozen=True)
class Subject:
    """A persona as its probes are made: never what an arm was trained on, but for the card."""

    name: str
    """The pack's folder name."""
    card: Card
    items: list[Item]
    """Held out."""
    reanswers: dict[tuple[str, str], Reanswer]
    """By held-out item id and the stage that answers it."""
    rows: dict[str, dict[str, list[Row]]]
    """The pack's probe files (see persllm.pack_probes): kind, then stage, to rows; a kind is absent without a file."""
    limit: int | None = None
    """At most so many clusters of each stage (and kind); None for all."""

    def few(self, rows: list[T], key: str = "id") -> list[T]:
        """Return at most ``limit`` of some rows, always the same ones whatever their order, in their own order."""
        if self.limit is None or len(rows) <= self.limit:
            return rows

        def rank(row: Any) -> str:
            told = row[key] if isinstance(row, dict) else getattr(row, key)
            return sha256(str(told).encode()).hexdigest()

        kept = {id(row) for row in sorted(rows, key=rank)[: self.limit]}
        return [row for row in rows if id(row) in kept]


@dataclass(frozen=True)
class Evidence:
    """What a metric's scoring sees. What ``NEEDS`` does not name is empty."""

    subject: Subject
    arm: str
    seed: int
    told: list[Told]
    prior: list[Told] = field(default_factory=list)
    others: dict[str, list[Told]] = field(default_factory=dict)
    """By pack name."""
    paragraphs: dict[str, list[Material]] = field(default_factory=dict)
    """By pack name, this persona's among them; for this one, without those of held-out items."""
    replies: list[Generation] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    """Of conversations, all speakers'."""
    opinions: list[Opinion] = field(default_factory=list)
    """Before and after conversations, all speakers'."""
    embedder: str = ""

    @cached_property
    def priors(self) -> dict[tuple[str, int], Told]:
        """The unpersonified arm's answers by probe id and sample."""
        return {(one.probe.id, one.telling.sample): one for one in self.prior}


@dataclass(frozen=True, kw_only=True)
class Value:
    """One metric's value for one item or probe; None is missing: counted, never zero."""

    item_id: str
    stage: str
    cluster: str
    metric: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number about a whole persona that is no mean over items: a reliability, a test's p."""

    metric: str
    value: float | None
    stage: str = ""
    """Empty where it is of all stages."""
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""


@dataclass(frozen=True)
class Scored:
    """What a metric found."""

    values: list[Value]
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left out, and why; the step says it."""


def data(name: str) -> list[Row]:
    """Return the rows of a file of ours under persllm/metrics/data/."""
    return [row for _, row in read_json_lines(DATA / name)]


def prefers(likelihoods: list[Likelihood], prior: list[Likelihood] | None = None) -> float | None:
    """Return 1 where the first option is the likeliest per token, 0.5 where it ties with another, else 0.

    Args:
        likelihoods: of two options or more.
        prior: the same under the unpersonified base model, subtracted (pointwise mutual information).
    """
    if len(likelihoods) < 2 or (prior is not None and len(prior) != len(likelihoods)):
        return None
    gains = [one.per_token for one in likelihoods]
    if prior is not None:
        gains = [gain - one.per_token for gain, one in zip(gains, prior, strict=True)]
    best = max(gains[1:])
    # Only an arm that is its own prior ties, and that must not count as always wrong.
    return 0.5 if gains[0] == best else float(gains[0] > best)
