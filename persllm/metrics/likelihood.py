"""gold_log_likelihood: how probable the gold response is to the arm, in nats per token (higher is better).

Shows: how close an arm's distribution over answers is to the character's answer, on items whose paragraph no tuned
arm was trained on. An arm that analyses first is scored after its OWN analysis, never after the gold one.
Cannot show: whether the arm's own replies are good, nor knowledge apart from style; an arm tuned on the annotator's
prose is favoured over one that only reads it, also where the wording and not the character is what it learned.
"""

from persllm.metrics import HELD_OUT, Metric, Values, View

FAMILY = HELD_OUT
OPTIONS = ("gold",)
METRICS = {"gold_log_likelihood": Metric("Gold log-likelihood", "nats per token")}


def compute(view: View) -> Values:
    """Return the metric of one item."""
    return {"gold_log_likelihood": view.likelihoods["gold"].per_token}
