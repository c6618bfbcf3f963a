"""The report page: words and number formats shared by its tables, plots and sentences."""

from __future__ import annotations

from persllm.metrics import has_direction, known, lower_is_better

DASH = "–"


def title(metric: str) -> str:
    """Return a metric's words."""
    return known(metric).title


def unit(metric: str) -> str:
    """Return a metric's unit, or an empty text where it is not known."""
    return known(metric).unit


def direction(metric: str) -> str:
    """Return which way is better, in words."""
    if not has_direction(metric):
        return "neither way is better"
    return "lower is better" if lower_is_better(metric) else "higher is better"


def arrow(metric: str) -> str:
    """Return an arrow in the direction that is better; for a metric without one, a dot."""
    return "·" if not has_direction(metric) else "↓" if lower_is_better(metric) else "↑"


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
