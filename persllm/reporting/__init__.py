"""The report page: words and number formats shared by its tables, plots and sentences."""

from __future__ import annotations

from persllm.metrics import lower_is_better

LABELS: dict[str, tuple[str, str]] = {
    "gold_log_likelihood": ("Gold log-likelihood", "nats per token"),
    "who_accuracy": ("Who accuracy", "share of items"),
    "when_accuracy": ("When accuracy", "share of items"),
    "who_accuracy_pmi": ("Who accuracy, prior subtracted", "share of items"),
    "when_accuracy_pmi": ("When accuracy, prior subtracted", "share of items"),
    "character_accuracy": ("Character accuracy", "share of items"),
    "false_premise_acceptance": ("False premise acceptance", "share of items"),
    "true_premise_denial": ("True premise denial", "share of items"),
    "bleu": ("BLEU", "0 to 100"),
    "rouge_l": ("ROUGE\u2011L", "0 to 100"),
    "chrf": ("chrF", "0 to 100"),
    "as_an_ai_rate": ("As-an-AI rate", "share of items"),
}
"""Title and unit of the metrics that come with the project; others show their own name."""

DASH = "–"


def title(metric: str) -> str:
    """Return a metric's words."""
    return LABELS.get(metric, (metric.replace("_", " "), ""))[0]


def unit(metric: str) -> str:
    """Return a metric's unit, or an empty text where it is not known."""
    return LABELS.get(metric, ("", ""))[1]


def direction(metric: str) -> str:
    """Return which way is better, in words."""
    return "lower is better" if lower_is_better(metric) else "higher is better"


def short(value: float | None, signed: bool = False) -> str:
    """Return a number for reading: fewer decimals the larger it is; a dash where it is not known."""
    if value is None:
        return DASH
    size = abs(value)
    digits = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 0.01 or size == 0 else 3
    text = f"{size:,.{digits}f}"
    sign = "" if not float(text.replace(",", "")) else "−" if value < 0 else "+" if signed else ""
    return sign + text


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """Return ``[low, high]``, or a dash."""
    return DASH if low is None or high is None else f"[{short(low, signed)}, {short(high, signed)}]"


def p_text(p: float | None) -> str:
    """Return ``= .032`` or ``< .001`` for use after the letter p, unbreakable; a dash where there was no test."""
    cell = p_cell(p)
    return f"{cell if cell.startswith('<') else f'= {cell}'}".replace(" ", "\u00a0") if p is not None else cell


def p_cell(p: float | None) -> str:
    """Return ``.032`` or ``< .001``; a dash where there was no test."""
    if p is None:
        return DASH
    return "< .001" if p < 0.001 else "1" if p >= 0.9995 else f"{p:.3f}".removeprefix("0")


def seconds_text(seconds: float | None) -> str:
    """Return a duration: ``0.4 s``, ``35 s``, ``12 min``, ``3.1 h``."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
