"""Stage-swap: a held-out question is asked at another stage than the one it was written for; whose answer is preferred?

- swap_accuracy: asked at the other stage, the arm prefers that stage's answer to the answer of the stage that the
  question was written for, per token. Chance is 0.5.
- swap_accuracy_pmi: the same after subtracting each answer's log-likelihood under the base model without a persona.
- stage_following: asked at both stages, the arm prefers at each the answer of that stage. A coin gets 0.25. An arm that
  does not know its stage prefers the same answer twice, and gets 0, whichever answer is the likelier text.

Each question is asked alone, and the answers are the recorded ones (after the stage-swapped preferences of
arXiv 2407.12393). Shows: whether who is asked WHEN decides what is said, with everything else the same. Cannot show:
what it would say unasked; and where both stages would say much the same, the truth itself is near chance. A tuned arm
that learnt from preferences between stages learnt from this very kind of them, on other items, so that these are
held-out accuracies of its training objective: read them beside what no arm is trained on (induction, moments,
consistency).
"""

from persllm.metrics import Metric
from persllm.probes import Evidence, Probe, Row, Scored, Subject, Told, Value, prefers

FAMILY = "Points in time"
VERSIONS = {"probe": 1, "score": 1}
NEEDS = ("prior",)
_UNIT = "share of items"
METRICS = {
    "swap_accuracy": Metric("Stage swap accuracy", _UNIT),
    "swap_accuracy_pmi": Metric("Stage swap accuracy, prior subtracted", _UNIT),
    "stage_following": Metric("Follows its stage", _UNIT),
}


def probes(subject: Subject) -> list[Probe]:
    """Return each question at its own stage and at another, with that stage's answer first and the other one second."""
    found = []
    for stage in subject.card.stages:
        again = [(item, other) for item in subject.items for other in subject.card.stages
                 if item.stage == stage and other != stage and (item.id, other) in subject.reanswers]  # fmt: skip
        kept = {item.id for item in subject.few(list({item.id: item for item, _ in again}.values()))}
        for item, other in again:
            if item.id not in kept:
                continue
            answers = [subject.reanswers[item.id, other].response, item.response]
            common: Row = {"cluster": item.material_id, "turns": [item.question], "closing": False}
            seen = {"item": item.id, "other": other}
            found += [
                Probe(id=f"{item.id}@{other}", stage=other, options=[answers], seen=seen, **common),
                Probe(id=f"{item.id}@{other}-own", stage=stage, options=[answers[::-1]], seen=seen, **common),
            ]
    return found


def score(evidence: Evidence) -> Scored:
    """Return for each question and other stage whether that stage's answer is preferred there, and each at its own."""
    values = []
    places = {one.probe.id: one for one in evidence.told}
    for one in evidence.told:
        if one.probe.stage != one.probe.seen["other"]:
            continue
        swapped, own = prefers(one.likelihoods()), prefers(places[f"{one.probe.id}-own"].likelihoods())
        following = None if swapped is None or own is None else swapped * own
        found = {"swap_accuracy": swapped, "stage_following": following} | _over_prior(evidence, one)
        common = {"item_id": one.probe.id, "stage": one.probe.stage, "cluster": one.probe.cluster}
        values += [Value(**common, metric=metric, value=value) for metric, value in found.items()]
    return Scored(values, notes=_notes(evidence.subject))


def _over_prior(evidence: Evidence, one: Told) -> dict[str, float | None]:
    before = evidence.priors.get((one.probe.id, one.telling.sample))
    return {} if before is None else {"swap_accuracy_pmi": prefers(one.likelihoods(), before.likelihoods())}


def _notes(subject: Subject) -> list[str]:
    if len(subject.card.stages) < 2:
        return [f"{subject.name}: one stage only, so none was swapped"]
    lacking = [item for item in subject.items if not any(item.id == answered for answered, _ in subject.reanswers)]
    return [f"{subject.name}: {len(lacking)} held-out items without another stage's answer"] if lacking else []
