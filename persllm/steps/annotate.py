"""Step annotate: items and re-answers for a persona's materials, and what people decided about them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from persllm import packs, records, reviews
from persllm.annotators import Annotator, Request, Unanswered
from persllm.annotators.allot import allot
from persllm.annotators.answers import Answers
from persllm.annotators.budget import Estimate, Purse, estimate, require_affordable
from persllm.annotators.construct import Construction, Made
from persllm.annotators.prompts import ask_question
from persllm.annotators.quoting import steers
from persllm.errors import UserError
from persllm.execute import Context, StepFailure
from persllm.packs import Card
from persllm.records import Item, Material, Reanswer
from persllm.steps import materials
from persllm.store import write_json

ANSWERS = "answers"
"""The folder under outputs/ that keeps every answer of every annotator."""


def run(ctx: Context) -> None:
    """Write ``items.jsonl``, ``reanswers.jsonl``, ``drafts.jsonl`` and ``yield.json``.

    The ``recorded`` annotator takes the items that the pack ships; ``api`` and ``local`` write them from the materials,
    and ``set_aside.jsonl`` holds what could not be read, with the reason. ``drafts.jsonl`` is what the annotator wrote,
    before the decisions in the pack's reviews.jsonl.
    """
    card, paragraphs = materials.read(ctx.inputs["materials"])
    root = Path(ctx.local["folder"])
    if ctx.config["annotator"] == "recorded":
        items, again = packs.load_items(root, card, paragraphs)
        made = Made(items, again)
    else:
        made = _constructed(ctx, card, paragraphs)
        records.write(ctx.out / "set_aside.jsonl", made.set_aside)
    drafts: list[Item | Reanswer] = [*made.items, *made.reanswers]
    records.write(ctx.out / "drafts.jsonl", drafts)
    settled = reviews.apply(made.items, made.reanswers, reviews.load(root))
    records.write(ctx.out / "items.jsonl", settled.items)
    records.write(ctx.out / "reanswers.jsonl", settled.reanswers)
    packs.require_unchanged(root, ctx.local["sha256"])
    if reviews.effect(root) != ctx.config.get("reviews", ""):
        raise UserError(f"{root}: reviews were taken while items were made; run the same command again to apply them")
    told = made.to_yield()
    told["steering_materials"] = [m.id for m in paragraphs if steers(m.text)]
    write_json(ctx.out / "yield.json", told)
    ctx.log(items=len(settled.items), reanswers=len(settled.reanswers), set_aside=len(made.set_aside), **settled.counts)


def affordable(
    card: Card, paragraphs: list[Material], config: dict[str, Any], local: dict[str, Any], outputs: Path
) -> Estimate:
    """Return what everything is expected to take, and how many questions an api has answered already.

    Raises:
        UserError: it is more than the budget. Not where a part is answered already: then the rest may cost less, and
            the purse stops at the budget all the same.
    """
    expected = estimate(card, paragraphs, config, local["endpoint"])
    kept = Answers(outputs / ANSWERS, {"api": local["model"]})
    answered = 0
    for slot in allot(paragraphs, config):
        messages = ask_question(card, slot.stage, slot.pattern, slot.material, slot.use)
        request = Request(messages, 0, config["temperature"], config["max_tokens"])
        answered += kept.get(request) is not None
    if not answered:
        require_affordable(expected, local["endpoint"])
    return dataclasses.replace(expected, answered=answered)


def annotator(kind: str, local: dict[str, Any], outputs: Path) -> Annotator:
    """Return the annotator ``kind``, api or local, of a step's local part."""
    if kind == "api":
        from persllm.annotators.api import Api

        return Api(local["model"], local["endpoint"])
    from persllm.annotators.local import Local

    return Local(local["model"], local["endpoint"]["batch_size"], outputs)


def _constructed(ctx: Context, card: Card, paragraphs: list[Material]) -> Made:
    endpoint = ctx.local["endpoint"]
    expected = affordable(card, paragraphs, ctx.config, ctx.local, ctx.outputs)
    ctx.say(expected.told(endpoint["budget"], ctx.config["attempts"]))
    asked = annotator(ctx.config["annotator"], ctx.local, ctx.outputs)
    answers = Answers(ctx.outputs / ANSWERS, asked.identity)
    purse = Purse(endpoint)
    work = Construction(card, paragraphs, ctx.config, asked, answers, purse)
    try:
        made = work.run()
    except Unanswered as error:
        hint = "see that it is the right server, and up, then run the same command again"
        raise StepFailure({"class": "unanswered", "message": str(error), "hint": hint}) from error
    finally:
        told = {"prompt_tokens": purse.tokens[0], "completion_tokens": purse.tokens[1], "money": purse.spent}
        told |= {"answers": purse.answers, "refused": purse.refused, "uncounted": purse.uncounted}
        ctx.cost |= told | {"requests": asked.tries}
        ctx.log(**ctx.cost)
    if not made.items:
        raise StepFailure({"class": "config"} | _no_item(asked.name, made))
    return made


def _no_item(name: str, made: Made) -> dict[str, str]:
    if not any(made.tokens) and not made.uncounted:
        message = f"{name} refuses every request, the last with: {made.set_aside[-1].text}"
        hint = "mend what it names (a limit of tokens is annotate.max_tokens here), then run the same command again"
        return {"message": message, "hint": hint}
    usual = ", ".join(f"{count} x {reason}" for reason, count in made.broken.most_common(3))
    message = f"{name} wrote no item that can be read, of {made.asked['question']} asked for: {usual}"
    hint = "every answer is kept, and would be taken again: take a stronger model (annotate.model), raise "
    hint += "annotate.attempts or, where answers are cut, annotate.max_tokens; a server that was mended wants another "
    return {"message": message, "hint": hint + "annotate.model or outputs"}
