"""Step judge: every arm's replies as one persona, scored and ranked by a judge that is tried in the same run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from persllm import pack_probes, records
from persllm.annotators import Annotator, Unanswered
from persllm.annotators.answers import Answers
from persllm.annotators.budget import Estimate, Purse, require_affordable
from persllm.annotators.inquiry import Inquiry
from persllm.execute import Context, StepFailure
from persllm.judging import METRICS, PATTERNS, family, labels, pool
from persllm.judging.bench import Bench, Case, Duel, Settled
from persllm.judging.certificate import LEAST, Trial, certificate, mean, on_arms
from persllm.judging.design import is_connected, meetings
from persllm.judging.masking import names
from persllm.judging.planted import drawn
from persllm.judging.trial import Persona, tried
from persllm.parts import PARTS
from persllm.records import Generation, Item, Score
from persllm.statistics import Resampler
from persllm.steps import generate, materials, split
from persllm.steps.annotate import ANSWERS
from persllm.store import read_json, write_json

_RESAMPLES = 2000

Row = dict[str, Any]


def _roles(ctx: Context, prefix: str) -> list[Path]:
    return [path for role, path in sorted(ctx.inputs.items()) if role.startswith(prefix)]


def persona(ctx: Context) -> Persona:
    """Read the persona, and those it is told from."""
    elsewhere: dict[str, str] = {}
    for again in split.read_reanswers(ctx.inputs["split"]):
        elsewhere.setdefault(again.item_id, again.response)
    root = Path(ctx.local["folder"])
    pack_probes.require_unchanged(root, ctx.config["probes_sha256"])
    card = materials.read(ctx.inputs["materials"])[0]
    return Persona(
        card=card,
        others=[materials.read(path)[0] for path in _roles(ctx, "card_")],
        items=[item for part in PARTS for item in split.read(ctx.inputs["split"], part)],
        held=split.read(ctx.inputs["split"], "test"),
        rivals=[item for path in _roles(ctx, "other_") for part in PARTS for item in split.read(path, part)],
        elsewhere=elsewhere,
        rows=pack_probes.read(root, list(card.stages)),
    )


def judge(ctx: Context) -> Annotator:
    """Return who judges."""
    if ctx.config["kind"] == "api":
        from persllm.annotators.api import Api

        return Api(ctx.local["model"], ctx.local["endpoint"], "judge")
    from persllm.annotators.local import Local

    return Local(ctx.local["model"], ctx.local["endpoint"]["batch_size"], ctx.outputs)


def other_family(ctx: Context) -> bool | None:
    """Return whether the judge is of another family than the arms' base models; None where their names do not tell."""
    if not ctx.config["other_family"]:
        return False
    made = [read_json(path.parent / "config.json") for path in _roles(ctx, "arm_")]
    arms = [family.name_of(one["config"]["model"]["identity"], one["local"]["model_path"]) for one in made]
    own = ctx.config["model"].get("identity", {})
    return family.is_other(family.name_of(own, ctx.local["model"]), arms)


def run(ctx: Context) -> None:
    """Judge every arm, try the judge, and write both.

    ``scores.jsonl`` (of all arms; ``arm`` is the arm's label in the study), ``judged.jsonl`` (each reply's scores),
    ``comparisons.jsonl``, ``calibration.jsonl`` (planted answers), ``verdicts.jsonl`` (everything asked, in order, with
    the prompts' hashes), ``set_aside.jsonl`` (verdicts that could not be read), ``certificate.json``, ``figures.json``
    and ``notes.json``.
    """
    endpoint = ctx.local["endpoint"]
    require_affordable(Estimate(**ctx.local["expected"]), endpoint, "judge", "judge.items, judge.comparisons")
    about, asked = persona(ctx), judge(ctx)
    purse = Purse(endpoint, "judge")
    answers = Answers(ctx.outputs / ANSWERS, asked.identity)
    inquiry = Inquiry(asked, answers, purse, ctx.config["max_tokens"], ctx.config["certificate"]["missing"])
    bench = Bench(inquiry, ctx.config, names([about.card, *about.others]))
    try:
        trial = tried(bench, about, ctx.config | {"other_family": other_family(ctx)})
        judged = _judged(ctx, bench, about)
        compared = _compared(ctx, bench, about)
    except Unanswered as error:
        hint = "see that it is the right server, and up, then run the same command again"
        raise StepFailure({"class": "unanswered", "message": str(error), "hint": hint}) from error
    finally:
        told = {"prompt_tokens": purse.tokens[0], "completion_tokens": purse.tokens[1], "money": purse.spent}
        told |= {"answers": purse.answers, "refused": purse.refused, "uncounted": purse.uncounted}
        ctx.cost |= told | {"requests": asked.tries}
    _write(ctx, bench, trial, judged, compared)


def _replies(ctx: Context) -> dict[str, dict[str, Generation]]:
    """Return each arm's replies by item."""
    arms = ctx.config["arms"]
    return {
        arm: {one.item_id: one for one in generate.read(ctx.inputs[f"arm_{number}"])} for number, arm in enumerate(arms)
    }


def _chosen(ctx: Context, about: Persona) -> list[Item]:
    """Return the held-out items that are judged: so many of each pattern, always the same."""
    limit = ctx.config["items"]
    return [item for name in PATTERNS for item in drawn([i for i in about.held if i.pattern == name], limit)]


def _judged(ctx: Context, bench: Bench, about: Persona) -> list[Row]:
    """Return each reply with its scores; a reply that broke its format has none, and its score is missing."""
    replies, cases, rows = _replies(ctx), [], []
    known = labels.read(ctx.local["labels"]) if ctx.local["labels"] else {}
    for item in _chosen(ctx, about):
        for arm, made in replies.items():
            text = made[item.id].response
            name = f"{item.id}@{arm}"
            kind = PATTERNS[item.pattern]
            if text is not None:
                cases.append(Case(name, kind, item.question, item.response, text))
            rows.append(
                {
                    "id": name,
                    "arm": arm,
                    "item_id": item.id,
                    "persona": item.persona,
                    "stage": item.stage,
                    "cluster": f"{item.persona}/{item.material_id}",
                    "material_id": item.material_id,
                    "kind": kind,
                    "reply": text,
                    "words": len((text or "").split()),
                    "label": known.get((item.persona, item.id, labels.plain(text or ""))),
                }
            )
    found = bench.scores("reply", cases)
    for row in rows:
        row["scores"] = found.get(row["id"], [])
        there = [score for score in row["scores"] if score is not None]
        row["mean"] = round(mean(there), 6) if there else None
    return rows


def _compared(ctx: Context, bench: Bench, about: Persona) -> list[Row]:
    """Return what came of every meeting of two arms; one whose reply is missing is missing."""
    replies, items, arms = _replies(ctx), _chosen(ctx, about), ctx.config["arms"]
    items = drawn(items, None, "meet")
    duels, rows = [], []
    for meeting in meetings(len(arms), len(items), ctx.config["comparisons"]):
        item, sides = items[meeting.item], (arms[meeting.first], arms[meeting.second])
        one, other = (replies[arm][item.id].response for arm in sides)
        name = f"{item.id}@{sides[0]}@{sides[1]}"
        if one is not None and other is not None:
            duels.append(Duel(name, item.question, item.response, one, other))
        where = {"persona": item.persona, "stage": item.stage, "cluster": f"{item.persona}/{item.material_id}"}
        rows.append({"id": name, "item_id": item.id, "one": sides[0], "other": sides[1], **where})
    found = bench.duels("pair", duels)
    for row in rows:
        settled = found.get(row["id"], Settled((None, None)))
        row |= {"orders": list(settled.orders), "outcome": settled.outcome, "flipped": settled.flipped}
    return rows


def _notes(ctx: Context, bench: Bench, judged: list[Row], compared: list[Row], held: Row) -> list[str]:
    """Return what is missing, and what the numbers cannot bear, in words."""
    config, name = ctx.config, Path(ctx.local["folder"]).name
    notes = [] if held["held"] else [f"{name}: the judge holds no certificate ({held['why']})"]
    lost = sum(row["mean"] is None for row in judged)
    if lost:
        notes.append(f"{name}: {lost} of {len(judged)} replies have no score from the judge: missing, not zero")
    lost = sum(row["outcome"] is None for row in compared)
    if lost:
        notes.append(f"{name}: {lost} of {len(compared)} comparisons have no verdict: missing, not ties")
    for told, one in held["arms"].items():
        if one["n"] and not one["holds"]:
            value = "not known" if one["value"] is None else f"{one['value']:.2f}"
            notes.append(
                f"{name}: {told}: {value}, and {'at most' if one['limit_is'] == 'most' else 'at least'} "
                f"{one['limit']:g} was hoped for: a ranking by such verdicts is weak"
            )
    met = meetings(len(config["arms"]), len({row["item_id"] for row in judged}), config["comparisons"])
    if not is_connected(len(config["arms"]), met):
        notes.append(f"{name}: too few comparisons to rank all arms; raise judge.comparisons")
    broken = sum(bench.inquiry.broken.values())
    if broken:
        worst = ", ".join(f"{count} x {reason}" for reason, count in bench.inquiry.broken.most_common(3))
        notes.append(f"{name}: {broken} verdicts could not be read at first ({worst})")
    if any(len([p for p in held["planted"] if p["kind"] == kind]) == 0 for kind in PATTERNS.values()):
        notes.append(f"{name}: a certificate needs {LEAST} recorded answers of knowledge and of opinion")
    return notes


def _write(ctx: Context, bench: Bench, trial: Trial, judged: list[Row], compared: list[Row]) -> None:
    config, name = ctx.config, bench.inquiry.annotator.name
    who = {"judge": name, "identity": bench.inquiry.annotator.identity, "prompts_sha256": bench.hashes}
    who |= {key: config[key] for key in ("temperature", "repeats")} | {"metrics": list(METRICS)}
    held = certificate(trial, config["certificate"], who, on_arms(judged, compared, config["certificate"]))
    scores = [
        Score(
            item_id=row["item_id"],
            arm=row["arm"],
            seed=config["seed"],
            persona=row["persona"],
            stage=row["stage"],
            cluster=row["material_id"],
            metric=f"judge_{row['kind']}",
            value=row["mean"],
        )
        for row in judged
    ]
    planted = []
    for one in trial.plants:
        found = mean(trial.scores[one.id])
        told = dataclasses.asdict(one) | {"cluster": f"{judged[0]['persona'] if judged else ''}/{one.cluster}"}
        planted.append(told | {"scores": trial.scores[one.id], "mean": None if found != found else round(found, 6)})
    for file, rows in (
        ("scores", scores),
        ("judged", judged),
        ("comparisons", compared),
        ("calibration", planted),
        ("verdicts", bench.verdicts),
        ("set_aside", bench.inquiry.set_aside),
    ):
        records.write(ctx.out / f"{file}.jsonl", rows)
    write_json(ctx.out / "certificate.json", held)
    write_json(
        ctx.out / "figures.json", pool.figures(pool.read([ctx.out]), config["arms"], Resampler(_RESAMPLES, 0), 0.95)
    )
    notes = _notes(ctx, bench, judged, compared, held)
    write_json(ctx.out / "notes.json", notes)
    for note in notes:
        ctx.say(note)
    missing = sum(score.value is None for score in scores)
    ctx.log(scores=len(scores), missing=missing, comparisons=len(compared), certificate=held["held"], **ctx.cost)
