"""Personas in conversation: two of them, or two stages of one, on a scenario (see persllm.conversation).

A persona meets its neighbours among the study's personas, in the order of the alphabet, and its own other stages. Turns
are drawn at a temperature, so that the seed matters to prompted arms as well. Both speakers are of the same arm;
the same scenarios held by prompted arms are what a tuned arm's numbers are compared with.

- conversation_stance_accuracy: asked for its opinions after a conversation, it prefers the reply that keeps one over
  the twin that gives it up, by log-likelihood per token; chance is 0.5. conversation_flip_rate: of those that were held
  before the conversation, the share given up (lower is better; a coin: 0.5). conversation_drift: change, from before to
  after, of how much likelier keeping is than giving up (nats per token; 0 is unmoved). Before: as it was asked before
  any conversation with the same partner. Who holds little gives up little: rate and change stand in no headline.
- conversation_role_break_rate: share of turns in which a speaker names itself as the other, writes lines for the other
  ("NAME: ..."), or at least half of which repeats the other's words in runs of six (lower is better). Read off English
  words by pattern: what it finds is there, what it misses is unknown.
- conversation_who_accuracy: share of turns that, names masked, are nearer to its own speech paragraphs than to the
  other's, by mean cosine of sentence embeddings; chance is 0.5. conversation_when_accuracy: the same between two stages
  of one persona. On recorded responses of four shipped personas this reading was right in 0.79 to 0.92 of the cases for
  who, in 0.58 to 0.96 for when: it knows themes better than voice, and a scenario's theme belongs to neither.
- conversation_distinct_1, conversation_distinct_2: share of distinct words, of distinct pairs of words, in windows of
  50 words of a speaker's turns (moving average: Covington and McFall 2010), so that length does not matter; fewer words
  than that have no value. conversation_semantic_diversity: mean cosine distance between its turns.
- conversation_novelty: share of a turn's content words that nobody has said before in the conversation;
  conversation_semantic_novelty: squared length of what its unit embedding has outside the span of all earlier turns.
  Both fall with the number of turns by themselves: compare arms. Figures give the course over turns.

Diversity and novelty describe and do not judge: babble is the most diverse of all. So they head no table. Shows: what
becomes of a character among others. Cannot show: whether the talk is good, or whom a person would like to listen to.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

from persllm.dialogue import BREAKS, LEAST, WINDOW, called, distinct, novelty, role_breaks, semantic_novelty, words
from persllm.metrics import Likelihood, Metric
from persllm.probes import Evidence, Figure, Row, Scored, Subject, Value, data
from persllm.stances import change, lacking, lean
from persllm.transcripts import Opinion, Turn

VERSIONS = {"probe": 1, "score": 2}
NEEDS = ("conversations",)
SAMPLED = True
TURNS, FEW_TURNS = 12, 4
"""Of a conversation, over both speakers; the few where evaluate.limit is set."""
STANCES = 3
"""Asked of each speaker after a conversation."""
METRICS = {
    "conversation_stance_accuracy": Metric("Opinions held after a conversation", "share of stances"),
    "conversation_flip_rate": Metric(
        "Given up in a conversation", "share of stances held", False, "lower", "of those held"
    ),
    "conversation_drift": Metric("Change in a conversation", "nats per token", headline=False, label="change"),
    "conversation_role_break_rate": Metric("Role confused", "share of turns", better="lower"),
    "conversation_who_accuracy": Metric("Heard as itself, not as the other", "share of turns"),
    "conversation_when_accuracy": Metric("Heard as this stage, not as the other", "share of turns"),
    "conversation_distinct_1": Metric("Distinct words", f"share, in {WINDOW} words", headline=False, better=""),
    "conversation_distinct_2": Metric(
        "Distinct pairs of words", f"share, in {WINDOW} words", headline=False, better=""
    ),
    "conversation_semantic_diversity": Metric("Semantic diversity", "mean cosine distance", headline=False, better=""),
    "conversation_novelty": Metric("Novelty", "share of content words", headline=False, better=""),
    "conversation_semantic_novelty": Metric("Semantic novelty", "share of an embedding", headline=False, better=""),
}


def turns(limit: int | None) -> int:
    """Return how many turns a conversation has."""
    return TURNS if limit is None else FEW_TURNS


def scenarios(subject: Subject) -> list[Row]:
    """Return the scenarios that a persona meets others in."""
    return subject.few(data("scenarios.jsonl"))


def asked_after(subject: Subject, stage: str, number: int) -> list[Row]:
    """Return the stances that are asked for after a stage's ``number``-th conversation (from 0); they go round."""
    rows = subject.few(subject.rows.get("stances", {}).get(stage, []))
    return [rows[(number * STANCES + step) % len(rows)] for step in range(min(STANCES, len(rows)))]


def _likeness(text: str, paragraphs: list[str], embedder: str) -> float:
    from persllm.embeddings import embed

    return float((embed(paragraphs, embedder) @ embed([text], embedder)[0]).mean())


class _Heard:
    """Paragraphs by which turns are heard as one speaker's or the other's."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def speech(self, persona: str, stage: str, hidden: list[str]) -> list[str]:
        """Return a speaker's speech paragraphs at a stage, with names masked."""
        from persllm.judging.masking import mask

        of = self.evidence.paragraphs.get(persona, [])
        return [mask(one.text, hidden) for one in of if one.kind == "speech" and one.stage == stage]

    def rightly(self, turn: Turn, other: Turn) -> float | None:
        """Return 1 where a turn is nearer to its speaker's paragraphs than to the other's; None without either."""
        from persllm.judging.masking import mask

        hidden = sorted({*called(turn.name), *called(other.name)})
        own = self.speech(turn.persona, turn.stage, hidden)
        theirs = self.speech(other.persona, other.stage, hidden)
        if not turn.response or not own or not theirs:
            return None
        text, embedder = mask(turn.response, hidden), self.evidence.embedder
        return float(_likeness(text, own, embedder) > _likeness(text, theirs, embedder))


class _Reading:
    """Values and counts, as they are read off the conversations."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence, self.heard = evidence, _Heard(evidence)
        self.values: list[Value] = []
        self.courses: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.breaks: dict[str, int] = dict.fromkeys(BREAKS, 0)
        self.met = self.short = self.silent = self.spoken = 0

    def add(self, place: Turn, item: str, found: dict[str, float | None]) -> None:
        """Note some values of a turn or of one speaker's whole part."""
        common: Row = {"item_id": item, "stage": place.stage, "cluster": place.scenario}
        self.values += [Value(**common, metric=f"conversation_{name}", value=value) for name, value in found.items()]

    def turn(self, turn: Turn, earlier: list[Turn], other: Turn) -> None:
        """Read one turn.

        Args:
            turn: of the persona.
            earlier: of both, in order.
            other: any turn of the other speaker's.
        """
        item, apart = f"{turn.conversation}-{turn.number}", turn.persona != other.persona
        self.spoken += 1
        self.silent += turn.response is None
        broke = role_breaks(turn, earlier, other.name if apart else "") if turn.response else None
        if apart:
            self.met += turn.response is not None
            for kind in broke or ():
                self.breaks[kind] += 1
            self.add(turn, item, {"role_break_rate": None if broke is None else float(bool(broke))})
        self.add(turn, item, {"who_accuracy" if apart else "when_accuracy": self.heard.rightly(turn, other)})
        before = [one.response for one in earlier if one.response]
        if before:
            self.news(turn, item, before)

    def news(self, turn: Turn, item: str, before: list[str]) -> None:
        """Read what of a turn is new."""
        if turn.response is None:
            self.add(turn, item, {"novelty": None, "semantic_novelty": None})
            return
        found = {"novelty": novelty(turn.response, before)}
        if found["novelty"] is None:
            self.short += 1
            found = {}
        found["semantic_novelty"] = semantic_novelty(turn.response, before, self.evidence.embedder)
        self.add(turn, item, found)
        for name, value in found.items():
            if value is not None:
                self.courses[name, turn.number].append(value)

    def part(self, own: list[Turn]) -> None:
        """Read all that one speaker said in a conversation."""
        from persllm.embeddings import embed

        texts = [turn.response for turn in own if turn.response]
        said = [word for text in texts for word in words(text)]
        diversity = None
        if len(texts) > 1:
            vectors = embed(texts, self.evidence.embedder)
            apart = [1 - float(one @ other) for one, other in combinations(vectors, 2)]
            diversity = sum(apart) / len(apart)
        found = {"distinct_1": distinct(said, 1), "distinct_2": distinct(said, 2), "semantic_diversity": diversity}
        self.add(own[0], f"{own[0].conversation}-{own[0].stage}", found)

    def figures(self) -> list[Figure]:
        """Return the courses over turns, and the kinds of role confusion."""
        found = [
            Figure(metric=f"conversation_{kind}", value=count / self.met, n=self.met, note="share of turns")
            for kind, count in self.breaks.items()
            if self.met
        ]
        for (name, number), of in sorted(self.courses.items()):
            metric = f"conversation_{name}_turn_{number + 1}"
            found.append(Figure(metric=metric, value=sum(of) / len(of), n=len(of), note="mean over conversations"))
        return found


def _lean(opinion: Opinion) -> float | None:
    return lean([Likelihood(total, int(tokens)) for total, tokens in opinion.likelihoods])


def opinions(evidence: Evidence) -> list[Value]:
    """Return what became of the persona's opinions; intervals resample stances, whose wording moves these most."""
    own = [one for one in evidence.opinions if one.persona == evidence.subject.name]
    before: dict[tuple[str, str], float | None] = {}
    found = []
    # Partner by partner, what was asked before comes first: it makes way for what was asked before the next partner.
    for one in own:
        if not one.conversation:
            before[one.stage, one.stance] = _lean(one)
            continue
        was, now = before[one.stage, one.stance], _lean(one)
        stands = None if now is None else float(now > 0)
        values: dict[str, float | None] = {"stance_accuracy": stands, "drift": change(now, was)}
        if was is None or was > 0:
            values["flip_rate"] = None if was is None or stands is None else 1 - stands
        common: Row = {"item_id": f"{one.conversation}-{one.stance}", "stage": one.stage, "cluster": one.stance}
        found += [Value(**common, metric=f"conversation_{name}", value=value) for name, value in values.items()]
    return found


def score(evidence: Evidence) -> Scored:
    """Return how the persona fared among others: opinions, role, diversity and novelty."""
    reading, name = _Reading(evidence), evidence.subject.name
    talks: dict[str, list[Turn]] = defaultdict(list)
    for turn in evidence.turns:
        talks[turn.conversation].append(turn)
    for said in talks.values():
        said.sort(key=lambda turn: turn.number)
        for first, second in (said[:2], said[1::-1]):
            own = [turn for turn in said if (turn.persona, turn.stage) == (first.persona, first.stage)]
            if first.persona != name:
                continue
            for turn in own:
                reading.turn(turn, said[: turn.number], second)
            reading.part(own)
    return Scored(opinions(evidence) + reading.values, reading.figures(), _notes(evidence, reading))


def _notes(evidence: Evidence, reading: _Reading) -> list[str]:
    name, found = evidence.subject.name, lacking(evidence.subject)
    if not evidence.turns:
        found.append(f"{name}: one stage and no other persona in the study, so there is nobody to talk to")
    if reading.silent:
        found.append(f"{name}: {reading.silent} of {reading.spoken} turns without a response")
    if reading.short:
        found.append(f"{name}: {reading.short} turns of fewer than {LEAST} content words, without novelty")
    forgetful = {turn.conversation for turn in evidence.turns if turn.persona == name and turn.forgotten}
    if forgetful:
        found.append(f"{name}: in {len(forgetful)} conversations the first turns were forgotten")
    return found
