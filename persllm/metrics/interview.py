"""Big Five by interview (InCharacter, arXiv 2310.17976): open questions, each trait's answer read as high or low.

All matches run from -1 to 1, with 0 by chance, against what the persona's card expects of the stage; traits of which it
expects nothing are left out.

- interview_match: the arm's own reply is read as whichever of two short answers, one of somebody high in the trait and
  one of somebody low, it is nearer to as a sentence embedding: 1 if that is the expected one, else -1. A reply that
  breaks the arm's format is missing. On 30 replies of ours whose side is known, in a character's own words, that
  reading is right in 21: it draws the match towards 0, by more than half.
- interview_shift: of a trait expected high at one stage and low at another, 1 where the reply comes nearer to the high
  answer at the stage that it is expected of, else -1. Two replies to one question are read in the right order in 13 of
  the same 15 pairs, and an arm that answers alike at all stages has 0.
- interview_lean_match: the same, read off which short answer is likelier to the arm, per token.
- interview_lean_match_pmi: the same after subtracting the log-likelihoods of the base model without a persona.

Shows: whether the arm describes itself, in its own words, on the card's side; in that paper interviews come nearer to
what people think of a character than questionnaires do. Cannot show: behaviour: it is still the arm speaking of itself,
and so never a headline. Expectations are not balanced (see persllm.metrics.personality): only the _pmi reading takes
out what the base model would say anyway.
"""

from persllm.cards import BIG_FIVE
from persllm.metrics import Metric
from persllm.metrics.personality import expectations, lacking, shifts, side
from persllm.probes import Evidence, Probe, Scored, Subject, data
from persllm.stances import change, lean, values

VERSIONS = {"probe": 1, "score": 1}
NEEDS = ("prior",)
SHARED = True
_UNIT = "\u22121 to 1, chance 0"
METRICS = {
    "interview_match": Metric("Interview as expected", _UNIT, headline=False, label="self-report"),
    "interview_shift": Metric("Interview changes with the stage", _UNIT, headline=False, label="self-report"),
    "interview_lean_match": Metric("Interview as expected, by likelihood", _UNIT, headline=False, label="self-report"),
    "interview_lean_match_pmi": Metric(
        "Interview as expected, by likelihood, prior subtracted", _UNIT, headline=False, label="self-report"
    ),
}


def probes(subject: Subject) -> list[Probe]:
    """Return at every stage the open questions on the traits of which the card expects something there."""
    wanted, rows = expectations(subject), data("interview.jsonl")
    return [
        Probe(
            id=f"{stage}-{row['id']}",
            stage=stage,
            cluster=row["id"],
            turns=[row["question"]],
            options=[[row["high"], row["low"]]],
            seen={"sign": wanted[stage, trait], "trait": trait},
        )
        for stage in subject.card.stages
        for trait in BIG_FIVE
        if (stage, trait) in wanted
        for row in subject.few([row for row in rows if row["trait"] == trait])
    ]


def margin(reply: str | None, high: str, low: str, embedder: str) -> float | None:
    """Return how much more a reply is like one short answer than like another, cosine; None without a reply."""
    from persllm.embeddings import embed

    if not reply:
        return None
    near = embed([high, low], embedder) @ embed([reply], embedder)[0]
    return float(near[0] - near[1])


def score(evidence: Evidence) -> Scored:
    """Return for each question whether the answer is on the expected side, and whether it goes with the stage."""
    found, margins = [], {}
    for one in evidence.told:
        gain, before = lean(one.likelihoods()), evidence.priors.get((one.probe.id, one.telling.sample))
        high, low = one.probe.at(0)
        near = margin(one.reply, high, low, evidence.embedder)
        margins[one.probe.stage, one.probe.cluster] = near
        readings = {"interview_match": side(near), "interview_lean_match": side(gain)}
        if before is not None:
            readings["interview_lean_match_pmi"] = side(change(gain, lean(before.likelihoods())))
        sign = one.probe.seen["sign"]
        found += values(one, {metric: None if each is None else sign * each for metric, each in readings.items()})
    traits = {one.probe.cluster: one.probe.seen["trait"] for one in evidence.told}
    found += shifts("interview_shift", evidence.subject, traits, margins)
    return Scored(found, notes=lacking(evidence.subject))
