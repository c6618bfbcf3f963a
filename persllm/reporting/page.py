"""From a loaded study to report.html (one file, no outside reference) and report.md."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from persllm import reporting
from persllm.metrics import has_direction, lower_is_better
from persllm.reporting import plots, training
from persllm.reporting.data import Receipt, Study
from persllm.reporting.headline import headline
from persllm.steps.compare import COSTS

FOLDER = Path(__file__).parent
Row = dict[str, Any]


def content_hash(script: str) -> str:
    """Return the Content-Security-Policy source of an inline script's exact text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def embedded_json(value: Any) -> Markup:
    """Return JSON that can stand inside a script element whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def code(text: str) -> Markup:
    """Return escaped HTML in which what stands in backticks is code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _environment(autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "short": reporting.short,
        "p_cell": reporting.p_cell,
        "title_of": reporting.title,
        "direction": reporting.direction,
        "seconds_text": reporting.seconds_text,
        "colour": plots.colour,
        "code": code,
        "cell": lambda text: str(text).replace("|", "\\|"),
    }
    environment.filters["arrow"] = reporting.arrow
    environment.globals |= {"interval": reporting.interval, "DASH": reporting.DASH}
    return environment


def best_arms(study: Study) -> dict[str, set[str]]:
    """Return, per metric, the arms with the best mean (more than one where they tie)."""
    found = {}
    for metric in study.metrics:
        means = {arm: study.table[arm, metric]["mean"] for arm in study.arms if has_direction(metric)}
        known = [mean for mean in means.values() if mean is not None]
        best = (min if lower_is_better(metric) else max)(known, default=None)
        found[metric] = {arm for arm, mean in means.items() if mean is not None and mean == best}
    return found


def cost_cells(study: Study, arm: str) -> list[str]:
    """Return one arm's costs as texts, in the order of the cost columns; a dash where not recorded."""
    row = study.table[arm, study.metrics[0]]
    train, tokens, prompt, reply, memory = (row[name] for name in COSTS)
    # A steered arm is not tuned, and yet spends time before its first reply.
    none = not study.arms[arm].tuned and not train
    return [
        "none" if none else reporting.seconds_text(train),
        "none" if not tokens and not study.arms[arm].tuned else reporting.DASH if tokens is None else f"{tokens:,.0f}",
        reporting.DASH if prompt is None else f"{prompt:,.0f}",
        reporting.seconds_text(reply),
        reporting.DASH if memory is None else f"{memory:,.0f} MB",
    ]


def figure_rows(rows: list[Row]) -> list[Row]:
    """Return figures as texts, those of one name together."""
    ordered = sorted(enumerate(rows), key=lambda entry: (entry[1]["metric"], entry[0]))
    return [
        {
            "name": row["metric"].replace("_", " "),
            "arm": row["arm"],
            "persona": f"{row['persona']} {row['stage']}".rstrip(),
            "seed": reporting.DASH if row["seed"] is None else f"{row['seed']:.0f}",
            "value": reporting.short(row["value"]),
            "interval": reporting.interval(row["low"], row["high"]),
            "n": f"{row['n']:.0f}",
            "note": row["note"],
        }
        for _, row in ordered
    ]


def effects(study: Study) -> list[Row]:
    """Return the effect plots: the primary metric's wide and narrow, then every other metric's."""
    found = []
    for metric in study.metrics:
        rows = [study.find(arm.name, arm.baseline, metric) for arm in study.arms.values() if arm.name != arm.baseline]
        kept = [row for row in rows if row is not None and row.difference is not None]
        if kept:
            plot = {"metric": metric, "narrow": Markup(plots.effect_plot(metric, kept, study.arms, wide=False))}
            if metric == study.primary:
                plot["wide"] = Markup(plots.effect_plot(metric, kept, study.arms, wide=True))
            found.append(plot)
    return found


def losses(study: Study) -> list[Row]:
    """Return the loss plots: one for each tuned arm, persona and objective, all its seeds together."""
    found = []

    def panel(curve: Any) -> tuple[int, int, bool, str]:
        place = study.arms[curve.arm].place
        return place, study.personas.index(curve.persona), curve.objective != "sft", curve.objective

    for (place, _, _, objective), group in groupby(sorted(study.curves, key=panel), key=panel):
        curves = list(group)
        drawn = any(curve.rows for curve in curves)
        found.append(
            {
                "arm": curves[0].arm,
                "persona": curves[0].persona,
                "objective": objective.upper(),
                "svg": Markup(plots.loss_plot(curves, place)) if drawn else None,
            }
        )
    return found


def transcripts(study: Study) -> Row:
    """Return what the transcript picker shows, as JSON types."""
    replies: dict[str, list[Row]] = {}
    for (arm, seed, persona, item), reply in study.generations.items():
        replies.setdefault(f"{persona}/{item}", []).append(
            {
                "arm": arm,
                "seed": seed,
                "analysis": reply.analysis,
                "response": reply.response,
                "text": reply.text if reply.response is None else None,
                "finish": reply.finish_reason,
                "scores": study.scores.get((arm, seed, persona, item), {}),
            }
        )
    items = [
        {
            "id": item.id,
            "persona": persona,
            "stage": item.stage,
            "pattern": item.pattern,
            "material": item.material_id,
            "question": item.question,
            "analysis": item.analysis,
            "response": item.response,
            "replies": replies.get(f"{persona}/{item.id}", []),
        }
        for (persona, _), item in sorted(study.items.items(), key=lambda entry: study.personas.index(entry[0][0]))
    ]
    arms = [{"name": a.name, "kind": a.kind, "colour": plots.colour(a.place)} for a in study.arms.values()]
    metrics = [{"name": m, "title": reporting.title(m)} for m in study.metrics]
    return {"items": items, "arms": arms, "metrics": metrics, "primary": study.primary, "seeds": study.seeds}


def chain(study: Study, cell: Row) -> list[str]:
    """Return the ids of every step behind one cell, inputs before users."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in found and name in study.receipts:
            for needed in study.receipts[name].inputs.values():
                visit(needed)
            found[name] = None

    for name in (cell["evaluate"], *cell["scores"].values()):
        visit(name)
    return list(found)


def receipt(step: Receipt) -> Row:
    """Return a step's receipt as texts; a dash stands for what it did not record."""
    run = step.run
    git = run.get("git") or {}
    commit = git.get("commit")
    state = " with uncommitted changes" if git.get("dirty") else ""
    versions = {name: said for name, said in (run.get("versions") or {}).items() if said}
    facts = {
        "fingerprint": step.fingerprint,
        "code version": step.version,
        "git": commit and f"{commit}{state}",
        "started": run.get("started"),
        "took": reporting.seconds_text(run["seconds"]) if "seconds" in run else None,
        "restarts": run.get("restarts"),
        "host": run.get("host"),
        "peak memory": f"{run['peak_memory_bytes'] / 1e6:,.0f} MB" if run.get("peak_memory_bytes") else None,
        "command": " ".join(run["command"]) if run.get("command") else None,
        "versions": ", ".join(f"{name} {said}" for name, said in sorted(versions.items())),
        "inputs": ", ".join(step.inputs.values()),
    }
    return {
        "id": step.id,
        "anchor": "step-" + re.sub(r"[^\w-]", "-", step.id),
        "fingerprint": step.fingerprint or reporting.DASH,
        "facts": {name: reporting.DASH if said in (None, "") else str(said) for name, said in facts.items()},
        "files": step.files,
        "config": json.dumps(step.config, indent=2, ensure_ascii=False, sort_keys=True),
    }


def _view(study: Study) -> Row:
    receipts = {name: receipt(step) for name, step in study.receipts.items()}
    counts = {
        "arms": len(study.arms),
        "personas": len(study.personas),
        "seeds": len(study.seeds),
        "items": len(study.items),
        "clusters": len(study.clusters),
        "missing cells": len(study.missing_cells),
        "missing values": sum(row["missing"] for row in study.missing_values),
    }
    return {
        "study": study,
        "counts": counts,
        "headline": headline(study),
        "best": best_arms(study),
        "figures": {name: figure_rows(rows) for name, rows in study.figures.items()},
        "training": training.rows(study),
        "costs": {arm: cost_cells(study, arm) for arm in study.arms},
        "baselines": list(dict.fromkeys(arm.baseline for arm in study.arms.values())),
        "receipts": receipts,
        "chains": [(cell, [receipts[name] for name in chain(study, cell)]) for cell in study.cells],
        "commit": (study.receipts[study.compare].run.get("git") or {}) if study.compare in study.receipts else {},
    }


def render_html(study: Study) -> str:
    """Return report.html's text."""
    script = (FOLDER / "page.js.j2").read_text(encoding="utf-8")
    view = _view(study) | {
        "script": Markup(script),
        "script_hash": content_hash(script),
        "data": embedded_json(transcripts(study)),
        "effects": effects(study),
        "losses": losses(study),
    }
    return _environment(autoescape=True).get_template("page.html.j2").render(view)


def render_markdown(study: Study) -> str:
    """Return report.md's text."""
    return _environment(autoescape=False).get_template("page.md.j2").render(_view(study))
