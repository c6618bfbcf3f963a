"""Point-in-time questions of TimeChara's four kinds (arXiv 2405.18027), two replies to choose between; chance is 0.5.

- future_accuracy: asked of what is still to come, it prefers to know nothing over telling it.
- past_absence_accuracy: asked of what happened without it, it prefers to say so over an eye-witness's tale.
- past_presence_accuracy: asked of what it lived through, it prefers to remember over denying that it was there.
- past_only_accuracy: asked how things stand, it prefers how they stand now over how they stand at another stage.
- future_accuracy_pmi and so on: the same after subtracting each reply's log-likelihood under the base model without a
  persona (pointwise mutual information).
- moment_accuracy, moment_accuracy_pmi: the four in one figure. Denial is right of what is to come and of what it missed
  (mean of the two), and wrong of what it lived through: the mean of both sides is 0.5 for who denies everything and for
  who tells everything. It and past_only_accuracy, which no denial decides, count for one half each. There is no figure
  without questions of all four kinds.

Replies are compared by log-likelihood per token, each question asked alone. Shows: whether the arm knows where in its
life it stands. Cannot show: what it would say unasked. Nor is it free of the replies' wording: a classifier that counts
words, trained on other packs, picks the right reply from its text alone, without question or persona, in 0.75 of all
cases (future 0.88, past absence 0.82, past presence 0.70). So a reader of texts who knows nothing is above chance,
which is why the prior is subtracted and why moment_accuracy_pmi alone stands in a headline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persllm.metrics import Metric
from persllm.pack_probes import MOMENTS
from persllm.probes import Evidence, Probe, Scored, Subject, Value, prefers

if TYPE_CHECKING:
    from persllm.statistics import Floats
    from persllm.statistics.derived import Derived

FAMILY = "Points in time"
VERSIONS = {"probe": 1, "score": 2}
NEEDS = ("prior",)
_UNIT = "share of questions"
_KINDS = {
    "future": "Future unknown",
    "past_absence": "Past absence",
    "past_presence": "Past presence",
    "past_only": "Past only",
}
METRICS = {
    "moment_accuracy_pmi": Metric("Moment accuracy, prior subtracted", "balanced share of questions"),
    "moment_accuracy": Metric(
        "Moment accuracy", "balanced share of questions", headline=False, label="prior not subtracted"
    ),
    **{
        f"{kind}_accuracy{suffix}": Metric(title + words, _UNIT, headline=False, label="component")
        for suffix, words in (("_pmi", ", prior subtracted"), ("", ""))
        for kind, title in _KINDS.items()
    },
}


def balanced(means: Floats, counts: Floats) -> Floats:
    """Return what is 0.5 for who always denies and for who always tells, ``[draws]``.

    Args:
        means: ``[4, draws]``: accuracy in the order of ``_KINDS``; NaN where nothing was asked, and then so is the
            figure.
        counts: unused: how many questions each mean is over, ``[4, draws]``.
    """
    future, absence, presence, past_only = means
    return (((future + absence) / 2 + presence) / 2 + past_only) / 2


def derived() -> list[Derived]:
    """Return the four kinds' accuracies in one figure, with the prior and without."""
    # Imported late: a plan, which reads what a metric needs, waits for no arithmetic.
    from persllm.statistics.derived import Derived

    return [
        Derived(f"moment_accuracy{suffix}", tuple(f"{kind}_accuracy{suffix}" for kind in _KINDS), balanced)
        for suffix in ("_pmi", "")
    ]


def probes(subject: Subject) -> list[Probe]:
    """Return one question for each moment, with its right and its wrong reply."""
    found = []
    for stage, rows in subject.rows.get("moments", {}).items():
        for kind in MOMENTS:
            found += [
                Probe(
                    id=row["id"],
                    stage=stage,
                    cluster=row["id"],
                    turns=[row["question"]],
                    options=[[row["right"], row["wrong"]]],
                    closing=False,
                    seen={"kind": kind},
                )
                for row in subject.few([row for row in rows if row["kind"] == kind])
            ]
    return found


def score(evidence: Evidence) -> Scored:
    """Return each moment's accuracy, plain and with the prior subtracted."""
    values = []
    for one in evidence.told:
        metric = f"{one.probe.seen['kind']}_accuracy"
        found = {metric: prefers(one.likelihoods())}
        before = evidence.priors.get((one.probe.id, one.telling.sample))
        if before is not None:
            found[f"{metric}_pmi"] = prefers(one.likelihoods(), before.likelihoods())
        common = {"item_id": one.probe.id, "stage": one.probe.stage, "cluster": one.probe.cluster}
        values += [Value(**common, metric=name, value=value) for name, value in found.items()]
    lacking = [stage for stage in evidence.subject.card.stages if stage not in evidence.subject.rows.get("moments", {})]
    notes = [f"{evidence.subject.name}: no {stage}/moments.jsonl, so nothing was asked" for stage in lacking]
    return Scored(values, notes=notes)
