"""Matched false and true premises on one fact, as one signal-detection figure: is the false told from the true?

Rejecting a false premise is a hit, rejecting a true one a false alarm (Green and Swets, 1966).

- premise_detection: share of false premises that are rejected; premise_denial: share of true ones that are (lower is
  better: over-refusal). Read off the log-likelihood per token of a right and a wrong reply, each question asked alone.
- premise_detection_pmi, premise_denial_pmi: the same two after subtracting each reply's log-likelihood under the base
  model without a persona (pointwise mutual information).
- induction_d_prime, induction_d_prime_pmi: how well the two are told apart, in standard deviations, by the two plain
  rates or by those with the prior subtracted; 0 is chance, and rejecting everything or nothing gives 0 as well. A rate
  alone is one side of it, and an arm that rejects everything has the best: so only the d' stand in a headline.
  induction_bias: what the arm leans to where it cannot tell (below 0: to rejecting, above: to going along); no
  direction is better.
- said_premise_detection, said_premise_denial: the two rates read off the arm's own reply: whichever of the two replies
  it is nearer to (persllm.nearer); a reply as near to both is missing. That is right on four in five replies whose side
  is known, and leans to denial (replies that go along with everything are read as rejecting 0.22 of the false ones,
  those of an arm that gets all right as denying 0.32 of the true ones). So there is no d' of them: it would take a
  denier for worse than a swallower; and neither stands in a headline.

Shows: resistance to induction without paying for it in denials. Cannot show: why; an arm may reject a premise for its
unlikely wording, for which the matched twin is the control.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persllm.metrics import Metric
from persllm.probes import Evidence, Probe, Row, Scored, Subject, Value, prefers

if TYPE_CHECKING:
    from persllm.statistics.derived import Derived

FAMILY = "False premises"
VERSIONS = {"probe": 1, "score": 2}
NEEDS = ("prior",)
SIDES = ("false", "true")
_UNIT = "share of premises"
METRICS = {
    "induction_d_prime_pmi": Metric("Induction d\u2032, prior subtracted", "standard deviations"),
    "induction_d_prime": Metric("Induction d\u2032", "standard deviations"),
    "induction_bias": Metric("Induction bias", "standard deviations", headline=False, better=""),
    "premise_detection_pmi": Metric(
        "False premises rejected, prior subtracted", _UNIT, headline=False, label="one side"
    ),
    "premise_denial_pmi": Metric(
        "True premises denied, prior subtracted", _UNIT, headline=False, label="one side", better="lower"
    ),
    "premise_detection": Metric("False premises rejected", _UNIT, headline=False, label="one side"),
    "premise_denial": Metric("True premises denied", _UNIT, headline=False, label="one side", better="lower"),
    "said_premise_detection": Metric(
        "False premises rejected, as said", _UNIT, headline=False, label="reads replies by likeness"
    ),
    "said_premise_denial": Metric(
        "True premises denied, as said", _UNIT, headline=False, label="reads replies by likeness", better="lower"
    ),
}


def derived() -> list[Derived]:
    """Return d', with the prior and without, and bias."""
    # Imported late: a plan, which reads what a metric needs, waits for no arithmetic.
    from persllm.statistics.derived import Derived
    from persllm.statistics.signal_detection import criterion_of_means, d_prime_of_means

    plain = ("premise_detection", "premise_denial")
    return [
        Derived("induction_d_prime_pmi", ("premise_detection_pmi", "premise_denial_pmi"), d_prime_of_means),
        Derived("induction_d_prime", plain, d_prime_of_means),
        Derived("induction_bias", plain, criterion_of_means),
    ]


def probes(subject: Subject) -> list[Probe]:
    """Return two questions for each fact, each with its right and its wrong reply."""
    return [
        Probe(
            id=f"{row['id']}-{side}",
            stage=stage,
            cluster=row["id"],
            turns=[row[side]],
            options=[[row[f"{side}_right"], row[f"{side}_wrong"]]],
            seen={"side": side},
        )
        for stage, rows in subject.rows.get("premises", {}).items()
        for row in subject.few(rows)
        for side in SIDES
    ]


def score(evidence: Evidence) -> Scored:
    """Return for each premise whether it was rejected: by likelihood, the same less the prior, and as said."""
    from persllm.nearer import nearer

    values = []
    said = nearer([one.reply for one in evidence.told], [one.probe.at(0) for one in evidence.told], evidence.embedder)
    for one, place in zip(evidence.told, said, strict=True):
        common: Row = {"item_id": one.probe.id, "stage": one.probe.stage, "cluster": one.probe.cluster}
        name = "premise_detection" if one.probe.seen["side"] == "false" else "premise_denial"
        readings = {name: prefers(one.likelihoods()), f"said_{name}": None if place is None else float(place == 0)}
        before = evidence.priors.get((one.probe.id, one.telling.sample))
        if before is not None:
            readings[f"{name}_pmi"] = prefers(one.likelihoods(), before.likelihoods())
        for metric, right in readings.items():
            denied = None if right is None else 1 - right
            values.append(Value(**common, metric=metric, value=right if name == "premise_detection" else denied))
    lacking = [
        stage for stage in evidence.subject.card.stages if stage not in evidence.subject.rows.get("premises", {})
    ]
    notes = [f"{evidence.subject.name}: no {stage}/premises.jsonl, so nothing was asked" for stage in lacking]
    return Scored(values, notes=notes)
