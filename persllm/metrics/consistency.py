"""Whether an opinion outlasts the wording of its question.

The same stance is asked for in five wordings (a question, two paraphrases of it, the question as a choice in both
orders), each alone, and two replies stand to choose between by log-likelihood per token.

- stance_accuracy: it prefers the reply that keeps the persona's opinion at this stage over its twin that gives it up,
  over all five wordings; chance is 0.5.
- stance_accuracy_pmi: the same after subtracting each reply's log-likelihood under the base model without a persona.
- paraphrase_flip_rate: share of paraphrases whose verdict is another than the question's (lower is better).
- order_flip_rate: share of stances whose verdict changes with the order in which the choice names its two sides.

A coin flips in half of the cases. An arm that always prefers the same text, whatever it is asked, never does: a low
rate beside a stance_accuracy near chance is no consistency, and neither rate stands in a headline. The replies are
scored one by one and never shown together, so that an order of theirs cannot matter; the only order is the one within
the choice.

Shows: whether the arm holds the recorded opinions, and whether wording moves it. Cannot show: what it would say
unasked, nor why it prefers a text; keep and flip are twins in voice and length, so that they differ in the opinion.
How likely a text is anyway differs more between twins than a prompt moves it (for the embedded model and Scrooge, a
standard deviation of 0.37 nats per token against 0.1), so that stance_accuracy_pmi sees more than stance_accuracy.
"""

from persllm.metrics import Metric
from persllm.probes import Evidence, Probe, Scored, Subject, Told, Value, prefers
from persllm.stances import lacking, stances, values

VERSIONS = {"probe": 1, "score": 1}
NEEDS = ("prior",)
METRICS = {
    "stance_accuracy": Metric("Stance accuracy", "share of questions"),
    "stance_accuracy_pmi": Metric("Stance accuracy, prior subtracted", "share of questions"),
    "paraphrase_flip_rate": Metric(
        "Flips under paraphrase", "share of paraphrases", False, "lower", "flatters sameness"
    ),
    "order_flip_rate": Metric(
        "Flips with the order of a choice", "share of stances", False, "lower", "flatters sameness"
    ),
}


def probes(subject: Subject) -> list[Probe]:
    """Return five wordings of each stance; none is replied to."""
    return [
        Probe(
            id=f"{row['id']}-{wording}",
            stage=stage,
            cluster=row["id"],
            turns=[text],
            options=[[row["keep"], row["flip"]]],
            closing=False,
            seen={"wording": wording},
        )
        for _, stage, row in stances(subject)
        for wording, text in zip(
            ("question", "paraphrase-1", "paraphrase-2", "either-1", "either-2"),
            (row["question"], *row["paraphrases"], *row["either"]),
            strict=True,
        )
    ]


def _differ(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else float(one != other)


def _flips(of: dict[str, Told]) -> list[Value]:
    """Return the flips of one stance from its wordings."""
    verdicts = {wording: prefers(one.likelihoods()) for wording, one in of.items()}
    found = []
    for wording in ("paraphrase-1", "paraphrase-2"):
        found += values(of[wording], {"paraphrase_flip_rate": _differ(verdicts[wording], verdicts["question"])})
    return found + values(of["either-1"], {"order_flip_rate": _differ(verdicts["either-1"], verdicts["either-2"])})


def score(evidence: Evidence) -> Scored:
    """Return each wording's accuracy and each stance's flips."""
    found: list[Value] = []
    wordings: dict[tuple[str, str], dict[str, Told]] = {}
    for one in evidence.told:
        wordings.setdefault((one.probe.stage, one.probe.cluster), {})[one.probe.seen["wording"]] = one
        found += values(one, {"stance_accuracy": prefers(one.likelihoods())})
        before = evidence.priors.get((one.probe.id, one.telling.sample))
        if before is not None:
            found += values(one, {"stance_accuracy_pmi": prefers(one.likelihoods(), before.likelihoods())})
    for of in wordings.values():
        found += _flips(of)
    return Scored(found, notes=lacking(evidence.subject))
