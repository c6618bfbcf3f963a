"""The words that questions are marked by in an annotator's answers."""

QUESTION, FALSE, TRUE = "Question:", "False:", "True:"
