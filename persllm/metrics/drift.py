"""Whether the arm is still the character after a long dialogue.

A stranger makes small talk for fifty turns, in two scripts at each stage. Some of it makes way for the questions of
stances: up to four in the turns that end with 10, 25 and 50, each stance once in a dialogue, and in the second script
in reverse order. Turn 1 is a dialogue that begins with the question. With ``evaluate.limit`` dialogues end at turn 10,
and the stages take the scripts by turns.

- drift_accuracy_1, _10, _25, _50: the reply that keeps the stance's opinion is likelier per token than its twin that
  gives it up; chance is 0.5.
- drift_loss: fall, from turn 1 to the last block of questions, of how much likelier keeping is than giving up, in nats
  per token, for the same stance (lower is better; 0 is no drift).
- drift_fidelity: how much more the replies of the last block are like the persona's own speech at this stage than like
  that of the study's other personas (cosine of sentence embeddings, to the middle of the paragraphs); 0 is nobody's.
- fidelity_loss: fall of the same, from turn 1 to the last block, for the same stance (lower is better).

Who has nothing to lose loses nothing: read the losses, which stand in no headline, beside the accuracies and
drift_fidelity, and all of them beside the model without a persona. Values of a dialogue have its whole course in
common, and all dialogues of a stage its stances: so the stage is the cluster of whatever is said after turn 1, which
makes few clusters and wide intervals. At turn 1 each stance is a dialogue and a cluster of its own. Twins differ in
likelihood by more than talk moves them: drift_loss sees more than the accuracies do. Cannot show: drift under a partner
who listens, for the script is deaf. Likeness of speech is partly likeness of topic, and the paragraphs are those that
arms may take in: a tuned arm is trained on them where its method says ``materials: true``, and a prompt may quote them;
held-out ones are not among them. The oldest turns are forgotten where memory is full: see the figure drift_forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

from persllm.metrics import Metric
from persllm.probes import Evidence, Figure, Probe, Row, Scored, Subject, Told, Value, data
from persllm.stances import change, lacking, lean, stances

VERSIONS = {"probe": 1, "score": 2}
NEEDS = ("paragraphs",)
MARKS = (10, 25, 50)
BLOCK = 4
_SHARE = "share of questions"
METRICS = {
    **{f"drift_accuracy_{turn}": Metric(f"Stance accuracy at turn {turn}", _SHARE) for turn in (1, *MARKS)},
    "drift_loss": Metric("Opinions lost over a dialogue", "nats per token", False, "lower", "change"),
    "drift_fidelity": Metric("Own voice late in a dialogue", "cosine"),
    "fidelity_loss": Metric("Own voice lost over a dialogue", "cosine", False, "lower", "change"),
}


def marks(subject: Subject) -> tuple[int, ...]:
    """Return the turns (from 1) at which a block of questions ends."""
    return MARKS if subject.limit is None else MARKS[:1]


def _placed(rows: list[Row], ends: tuple[int, ...]) -> dict[int, Row]:
    """Return which stance is asked at which turn (from 1): dealt out to the blocks in turn."""
    found = {}
    for place, end in enumerate(ends):
        block = rows[place :: len(ends)][:BLOCK]
        found |= {end - len(block) + number: row for number, row in enumerate(block, 1)}
    return found


def _dialogue(stage: str, script: Row, rows: list[Row], ends: tuple[int, ...]) -> Probe:
    placed, last = _placed(rows, ends), ends[-1]
    turns = list(script["turns"][:last])
    options: list[list[str]] = [[] for _ in turns]
    for turn, row in placed.items():
        turns[turn - 1] = row["question"]
        options[turn - 1] = [row["keep"], row["flip"]]
    return Probe(
        id=f"{stage}-{script['id']}",
        stage=stage,
        cluster=f"{stage}-{script['id']}",
        turns=turns,
        options=options,
        seen={"asked": {str(turn): row["id"] for turn, row in sorted(placed.items())}},
    )


def probes(subject: Subject) -> list[Probe]:
    """Return the dialogues of each stage, and each of its stances asked at turn 1."""
    of: dict[str, list[Row]] = {}
    for _, stage, row in stances(subject):
        of.setdefault(stage, []).append(row)
    scripts, ends, found = data("smalltalk.jsonl"), marks(subject), []
    for number, (stage, rows) in enumerate(of.items()):
        for place, script in enumerate(scripts):
            if subject.limit is None or place == number % len(scripts):
                found.append(_dialogue(stage, script, rows[::-1] if place % 2 else rows, ends))
        found += [
            Probe(
                id=row["id"],
                stage=stage,
                cluster=row["id"],
                turns=[row["question"]],
                options=[[row["keep"], row["flip"]]],
                seen={"asked": {"1": row["id"]}},
            )
            for row in rows
        ]
    return found


class _Met(NamedTuple):
    """A stance's question in some turn of a dialogue."""

    stance: str
    told: Told
    turn: int
    lean: float | None
    likeness: float | None

    def values(self, found: dict[str, float | None]) -> list[Value]:
        probe = self.told.probe
        alone = probe.id == self.stance
        item, cluster = (probe.id, self.stance) if alone else (f"{probe.id}-{self.stance}", probe.stage)
        return [
            Value(item_id=item, stage=probe.stage, cluster=cluster, metric=metric, value=value)
            for metric, value in found.items()
        ]


def _met(evidence: Evidence) -> tuple[list[_Met], set[str]]:
    """Return every stance's question in every dialogue, and the stages whose own voice can be told."""
    from persllm.voices import direction, likeness

    name, embedder = evidence.subject.name, evidence.embedder
    towards = {
        stage: direction(evidence.paragraphs, name, stage, embedder)
        for stage in {one.probe.stage for one in evidence.told}
    }
    met = []
    for one in evidence.told:
        for turn, stance in one.probe.seen["asked"].items():
            place = int(turn) - 1
            like = likeness(one.telling.replies[place], towards[one.probe.stage], embedder)
            met.append(_Met(stance, one, place + 1, lean(one.likelihoods(place)), like))
    return met, {stage for stage, known in towards.items() if known is not None}


def _notes(subject: Subject) -> list[str]:
    last = marks(subject)[-1]
    if last == MARKS[-1]:
        return lacking(subject)
    note = f"{subject.name}: with evaluate.limit the dialogues of drift end at turn {last}, not {MARKS[-1]}"
    return [*lacking(subject), note]


def score(evidence: Evidence) -> Scored:
    """Return what each stance has become at each turn, and how many turns were forgotten."""
    met, heard = _met(evidence)
    first = {(one.told.probe.stage, one.stance): one for one in met if one.turn == 1}
    ends, found = marks(evidence.subject), []
    for one in met:
        end = next(end for end in (1, *ends) if one.turn <= end)
        found += one.values({f"drift_accuracy_{end}": None if one.lean is None else float(one.lean > 0)})
        if end < ends[-1]:
            continue
        before = first[one.told.probe.stage, one.stance]
        found += one.values({"drift_loss": change(before.lean, one.lean)})
        if one.told.probe.stage in heard:
            lost = change(before.likeness, one.likeness)
            found += one.values({"drift_fidelity": one.likeness, "fidelity_loss": lost})
    forgotten = [one.telling.forgotten for one in evidence.told if len(one.probe.turns) > 1]
    mean = sum(forgotten) / len(forgotten) if forgotten else None
    note = "of the oldest turns, on average no longer in view at a dialogue's end"
    notes = _notes(evidence.subject)
    mute = sorted({one.probe.stage for one in evidence.told} - heard)
    notes += [f"{evidence.subject.name}: no speech of its own or of others to tell its voice at {s} by" for s in mute]
    return Scored(found, [Figure(metric="drift_forgotten", value=mean, n=len(forgotten), note=note)], notes)
