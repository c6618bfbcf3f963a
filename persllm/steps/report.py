"""Report: the study as one self-contained page, and the same in Markdown."""

from __future__ import annotations

from persllm.execute import Context
from persllm.reporting import data, page


def run(ctx: Context) -> None:
    """Write report.html and report.md from the compare step's tables and the steps behind them."""
    study = data.load(ctx)
    (ctx.out / "report.html").write_text(page.render_html(study), encoding="utf-8", newline="\n")
    (ctx.out / "report.md").write_text(page.render_markdown(study), encoding="utf-8", newline="\n")
