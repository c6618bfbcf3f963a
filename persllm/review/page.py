"""From a desk to its page: one HTML text that loads nothing from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from persllm import reporting
from persllm.reporting.page import content_hash, embedded_json
from persllm.review.desk import Desk

FOLDER = Path(__file__).parent


def render(desk: Desk) -> tuple[str, str]:
    """Return the page and the Content-Security-Policy that lets run what it holds, and nothing else."""
    # Autoescaping would spoil the quotes of style and script; every text of others is in the data, and HTML gets none.
    plain = Environment(loader=FileSystemLoader([FOLDER, Path(reporting.__file__).parent]), undefined=StrictUndefined)
    script = plain.get_template("review.js.j2").render()
    style = plain.get_template("review.css.j2").render()
    data = desk.page() | {"now": desk.changes(), "user": os.environ.get("USER", "")}
    page = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("review.html.j2").render(
        data=embedded_json(data), script=Markup(script), style=Markup(style)
    )
    policy = (
        f"default-src 'none'; script-src '{content_hash(script)}'; style-src '{content_hash(style)}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy
