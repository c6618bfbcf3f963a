"""Multiple choice by length-normalised log-likelihood; chance is 0.5, and each question is asked apart.

- who_accuracy: gold against another persona's answer to its nearest held-out question. Shows whether the arm knows
  whose answer it is. Cannot show identity alone: the foreign answer is also to a slightly other question.
- when_accuracy: gold against the same persona's answer to the SAME question at another stage. Shows stage, and only
  stage; where both stages would say much the same, the truth itself is near chance.
- character_accuracy: gold against the base model's answer without any persona. Shows whether the character is preferred
  to the assistant. A prompted arm is asked to prefer a text over one that its own weights wrote, which is hard for it
  by construction: read it as a measure of what must be overcome, not of skill.
"""

from persllm.metrics import Values, View, prefers_gold

OPTIONS = ("gold", "other_persona", "other_stage", "generic")


def compute(view: View) -> Values:
    """Return the metrics of one item."""
    return {
        "who_accuracy": prefers_gold(view, "other_persona"),
        "when_accuracy": prefers_gold(view, "other_stage"),
        "character_accuracy": prefers_gold(view, "generic"),
    }
