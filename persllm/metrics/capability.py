"""What personification costs in general ability: a set of multiple-choice questions and general text, both our own.

The weights' cost is measured without the role, since a character of another age may rightly not know what is asked:

- general_accuracy: the right of four options has the highest log-likelihood per token, asked under the prompt of no
  persona with the arm's weights; chance is 0.25. Each option is scored apart, so that no order of options can matter.
  Nothing is subtracted for options that are likely by themselves: that prior would be the weights' own, and is part of
  what may be lost.
- general_log_likelihood: of the second half of paragraphs given the first, plain text without a chat's form, in nats
  per token; perplexity is its negative's exponential.

The role's cost comes on top, and need not be a loss of ability:

- role_accuracy: the same questions under the arm's own prompt, as the persona at each stage by turns.

What an arm lost is its contrast with `prompt_none`, the base model untouched. Prompted arms have its weights: their
first two numbers are its own. Source: MMLU-style scoring of options; the guard follows arXiv 2511.01689. Shows: a fall
of ten points and more (120 questions); cannot show one of three, nor abilities that are not asked for.
"""

from __future__ import annotations

from persllm.metrics import Metric
from persllm.probes import DATA, Evidence, Probe, Row, Scored, Subject, Told, Value, data, prefers

FAMILY = "General ability"
VERSIONS = {"probe": 1, "score": 1}
NEEDS = ()
SHARED = True
METRICS = {
    "general_accuracy": Metric("General accuracy, weights alone", "share of questions"),
    "role_accuracy": Metric("General accuracy, in role", "share of questions", better=""),
    "general_log_likelihood": Metric("General text log-likelihood", "nats per token"),
}
_FRAMES = {"neutral": "general_accuracy", "role": "role_accuracy"}


def _halves(paragraph: str) -> tuple[str, str]:
    words = paragraph.split(" ")
    middle = len(words) // 2
    return " ".join(words[:middle]), " " + " ".join(words[middle:])


def _questions(subject: Subject) -> list[Row]:
    rows = data("general_choice.jsonl")
    subjects = dict.fromkeys(row["subject"] for row in rows)
    return [row for name in subjects for row in subject.few([row for row in rows if row["subject"] == name])]


def probes(subject: Subject) -> list[Probe]:
    """Return each question in two frames and each paragraph in its halves; with a limit, as many of each subject."""
    stages = list(subject.card.stages)
    found = []
    for place, row in enumerate(_questions(subject)):
        right = row["options"][row["answer"]]
        options = [right, *(option for option in row["options"] if option != right)]
        for frame in _FRAMES:
            # In role each stage is asked in turn: the guard is of the arm, not of a stage.
            stage = stages[place % len(stages)]
            name = f"{row['id']}-{frame}"
            common: Row = {"stage": stage, "cluster": row["id"], "closing": False, "frame": frame}
            found.append(Probe(id=name, turns=[row["question"]], options=[options], **common))
    paragraphs = (DATA / "general_text.txt").read_text(encoding="utf-8").splitlines()
    rows = [{"id": f"text-{number:02d}", "text": text} for number, text in enumerate(paragraphs, 1)]
    for place, row in enumerate(subject.few(rows)):
        first, second = _halves(row["text"])
        common = {"stage": stages[place % len(stages)], "cluster": row["id"], "closing": False, "frame": "raw"}
        found.append(Probe(id=row["id"], turns=[first], options=[[second]], **common))
    return found


def _value(one: Told) -> tuple[str, float | None]:
    likelihoods = one.likelihoods()
    if one.probe.frame == "raw":
        return "general_log_likelihood", likelihoods[0].per_token
    return _FRAMES[one.probe.frame], prefers(likelihoods)


def score(evidence: Evidence) -> Scored:
    """Return each question's accuracy and each paragraph's log-likelihood."""
    values = []
    for one in evidence.told:
        metric, value = _value(one)
        common: Row = {"item_id": one.probe.id, "stage": one.probe.stage, "cluster": one.probe.cluster}
        values.append(Value(**common, metric=metric, value=value))
    return Scored(values)
