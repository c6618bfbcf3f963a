"""Multiple choice by length-normalised log-likelihood; chance is 0.5, and each question is asked apart.

- who_accuracy: gold against another persona's answer to its nearest held-out question. Shows whether the arm knows
  whose answer it is. Cannot show identity alone: the foreign answer is also to a slightly other question.
- when_accuracy: gold against the same persona's answer to the SAME question at another stage. Shows stage, and only
  stage; where both stages would say much the same, the truth itself is near chance.
- who_accuracy_pmi, when_accuracy_pmi: the same two after subtracting each answer's log-likelihood under the base model
  without a persona (pointwise mutual information). An answer that names facts is improbable to every arm, whoever gives
  it; on these items the base without a persona is far from chance in the plain form, which is a bias and not knowledge.
- character_accuracy: gold against the base model's answer without any persona. Shows whether the character is preferred
  to the assistant. A prompted arm is asked to prefer a text over one that its own weights wrote, which is hard for it
  by construction: read it as a measure of what must be overcome, not of skill.

A tuned arm that learnt from preferences learnt from these very kinds of them, on other items: gold over another
persona's answer, over another stage's. For such an arm these are held-out accuracies of its own training objective.
Read them beside what no arm is trained on: induction, moments, consistency.
"""

from persllm.metrics import HELD_OUT, Metric, Values, View, prefers_gold, prefers_gold_over_prior

FAMILY = HELD_OUT
OPTIONS = ("gold", "other_persona", "other_stage", "generic")
_UNIT = "share of items"
METRICS = {
    "who_accuracy": Metric("Who accuracy", _UNIT),
    "when_accuracy": Metric("When accuracy", _UNIT),
    "who_accuracy_pmi": Metric("Who accuracy, prior subtracted", _UNIT),
    "when_accuracy_pmi": Metric("When accuracy, prior subtracted", _UNIT),
    "character_accuracy": Metric("Character accuracy", _UNIT),
}


def compute(view: View) -> Values:
    """Return the metrics of one item."""
    return {
        "who_accuracy": prefers_gold(view, "other_persona"),
        "when_accuracy": prefers_gold(view, "other_stage"),
        "who_accuracy_pmi": prefers_gold_over_prior(view, "other_persona"),
        "when_accuracy_pmi": prefers_gold_over_prior(view, "other_stage"),
        "character_accuracy": prefers_gold(view, "generic"),
    }
