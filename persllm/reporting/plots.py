"""Plots as inline SVG: same input, same bytes; text stays text; ink follows the page's colour scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from persllm.metrics import has_direction, lower_is_better
from persllm.reporting import direction, interval, short, title, unit
from persllm.reporting.data import Arm, Contrast, Curve

PALETTE = ("#0072b2", "#d98c00", "#009e73", "#d55e00", "#c46a9b", "#3fa0dc", "#8c8c1a", "#8a6fd1", "#a0623a", "#7f7f7f")
"""Okabe and Ito's colours (told apart by colour-blind readers), the pale ones darkened for white paper."""

# Colours that the page's style sheet decides; drawn as these stand-ins and named after.
_INK, _MUTED, _LINE, _PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "currentColor", _MUTED: "var(--muted)", _LINE: "var(--line)", _PAPER: "var(--paper)"}

_STYLE: Any = {
    "svg.hashsalt": "persllm",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.unicode_minus": True,
}


def colour(place: int) -> str:
    """Return an arm's colour from its place in the configuration; after ten arms they come again."""
    return PALETTE[place % len(PALETTE)]


@contextmanager
def _axes(width: float, height: float, margins: tuple[float, float, float, float]) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure of so many pixels with one bare axes; margins are left, right, bottom, top in pixels."""
    left, right, bottom, top = margins
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72))
        FigureCanvasSVG(figure)
        box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
        axes = figure.add_axes(box)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        axes.tick_params(length=0)
        yield figure, axes


def _svg(figure: Figure, label: str) -> str:
    """Return the figure as an ``<svg>`` element without metadata, outside references or clashing ids."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()[out.getvalue().index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9]+_[\d.]+"', "", text)
    text = text.replace("xlink:href", "href")
    size = f'width="{72 * figure.get_figwidth():.0f}" role="img" aria-label="{escape(label)}"'
    text = re.sub(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', lambda found: f"<svg {found.group(1)} {size}>", text, count=1)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--sans)", text)
    for stand_in, name in _VARIABLES.items():
        text = text.replace(stand_in, name)
    return re.sub(r"\n\s*", "\n", text).strip()


@dataclass(frozen=True)
class _Place:
    """Where things stand in an effect plot, in pixels."""

    width: float
    row: float
    left: float
    right: float


def effect_plot(metric: str, rows: list[Contrast], arms: dict[str, Arm], wide: bool) -> str:
    """Draw each arm's difference from its baseline with its interval.

    Filled markers: adjusted p under the level; hollow: not told apart. Circles are tuned arms, squares prompted ones.
    Wide plots name the arms at the left and the numbers at the right; narrow ones write both above each line.
    """
    rows = [row for row in rows if row.difference is not None]
    longest = max((len(row.arm) for row in rows), default=0)
    place = _Place(1000, 34, min(330.0, 7.0 * longest + 24), 170) if wide else _Place(340, 42, 10, 10)
    height = place.row * len(rows) + 50
    with _axes(place.width, height, (place.left, place.right, 42, 8)) as (figure, axes):
        for y, row in enumerate(rows):
            assert row.difference is not None
            tone = colour(arms[row.arm].place)
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [y, y], color=tone, linewidth=2.4, solid_capstyle="round", zorder=2)
            face = _PAPER if row.verdict == "not told apart" else tone
            shape = "o" if arms[row.arm].tuned else "s"
            axes.plot([row.difference], [y], shape, markersize=9, color=tone, markerfacecolor=face, markeredgewidth=2.2)
            _label(axes, row, y, wide)
        axes.axvline(0, color=_MUTED, linewidth=1.2, zorder=1)
        axes.grid(axis="x", color=_LINE, linewidth=0.8, zorder=0)
        axes.set_axisbelow(True)
        axes.set_ylim(len(rows) - 0.5, -0.5 if wide else -0.75)
        axes.margins(x=0.06)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(7 if wide else 4))
        arrow = f"← {direction(metric)}" if lower_is_better(metric) else direction(metric)
        arrow += " →" if has_direction(metric) and not lower_is_better(metric) else ""
        name = f"difference from baseline, {unit(metric)}" if unit(metric) else "difference from baseline"
        axes.set_xlabel(f"{name} · {arrow}", fontsize=11 if wide else 10)
        told = "; ".join(f"{row.arm} {short(row.difference, True)}, {row.verdict}" for row in rows)
        return _svg(figure, f"{title(metric)}, difference from baseline ({direction(metric)}): {told}")


def _label(axes: Axes, row: Contrast, y: int, wide: bool) -> None:
    """Write a row's arm and numbers beside it, or above it in a narrow plot."""
    numbers = f"{short(row.difference, True)} {interval(row.low, row.high, True)}"
    across = axes.get_yaxis_transform()
    if wide:
        axes.text(-0.02, y, row.arm, ha="right", va="center", fontsize=12, transform=across)
        axes.text(1.02, y, numbers, ha="left", va="center", fontsize=11, color=_MUTED, transform=across)
    else:
        axes.text(0, y - 0.35, row.arm, ha="left", va="center", fontsize=10, transform=across)
        axes.text(1, y - 0.35, numbers, ha="right", va="center", fontsize=9, color=_MUTED, transform=across)


def _series(rows: list[dict[str, object]], key: str) -> tuple[list[float], list[float]]:
    points = [(row.get("step"), row.get(key)) for row in rows]
    known = [(float(x), float(y)) for x, y in points if isinstance(x, int | float) and isinstance(y, int | float)]
    return [x for x, _ in known], [y for _, y in known]


def loss_plot(curves: list[Curve], place: int) -> str:
    """Draw training loss (thin line) and held-out loss (dots) over optimizer steps, one pair of lines a seed."""
    tone = colour(place)
    with _axes(340, 210, (44, 10, 40, 10)) as (figure, axes):
        for curve in curves:
            axes.plot(*_series(curve.rows, "loss"), color=tone, linewidth=1.6, alpha=0.85)
            axes.plot(*_series(curve.rows, "val_loss"), "o--", color=_INK, linewidth=1.2, markersize=4.5)
        axes.grid(axis="y", color=_LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("optimizer step", fontsize=10)
        first = curves[0]
        label = f"{first.objective.upper()} loss of {first.arm} as {first.persona}, training and held-out"
        return _svg(figure, label)
