"""Rows of numbers as CSV and Markdown, with fixed number texts."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any


def number(value: Any) -> str:
    """Return a number's fixed text: six significant digits, whole above 100,000, empty for NaN; texts stay."""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return ""
    return f"{value + 0.0:.0f}" if abs(value) >= 1e5 else f"{value + 0.0:.6g}"


def to_csv(columns: Sequence[str], rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV with a header and fixed number texts."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([number(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def to_markdown(columns: Sequence[str], rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; what is not known is a dash."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[number(row[column]).replace("|", "\\|") or "-" for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
