"""Step general: instruction data that is mixed in, so that a personified model keeps its general manners."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from persllm import records
from persllm.chats.collect import collect, sentence
from persllm.decoding import generate_all
from persllm.execute import Context
from persllm.language_model import chat_ids, load_base, load_tokenizer, model_source
from persllm.progress import bar
from persllm.prompting import GENERIC
from persllm.records import GeneralItem
from persllm.store import write_json

PROMPTS = Path(__file__).parent.parent / "general_prompts.txt"


def run(ctx: Context) -> None:
    """Write ``general.jsonl``, and ``general.json``: how many items were asked for, found, and left out, and why."""
    config = ctx.config["general"]
    if "sources" in config:
        items, sources = collect(config, ctx.check_stop)
        told: dict[str, Any] = {"sources": sources}
        for one in sources:
            ctx.say(sentence(one))
    else:
        items, cut = _own(ctx)
        told = {"dropped_unfinished": cut}
        if len(items) + cut < config["limit"]:
            ctx.say(
                f"{len(items) + cut} prompts are all there are, where general.limit={config['limit']} were asked for"
            )
    told = {"asked": config["limit"], "items": len(items)} | told
    ctx.log(**told)
    records.write(ctx.out / "general.jsonl", items)
    write_json(ctx.out / "general.json", told)


def _own(ctx: Context) -> tuple[list[GeneralItem], int]:
    """Return our own prompts with the base model's answers, and how many had none that ends."""
    config = ctx.config["general"]
    questions = PROMPTS.read_text(encoding="utf-8").splitlines()[: config["limit"]]
    source = model_source(ctx.local["model_path"], ctx.outputs)
    tokenizer = load_tokenizer(source, ctx.config["model"]["revision"])
    model = load_base(source, ctx.config["model"]["dtype"], ctx.config["model"]["revision"])
    prompts = [
        chat_ids(tokenizer, [{"role": "system", "content": GENERIC}, {"role": "user", "content": question}])
        for question in questions
    ]
    decoding = {"max_new_tokens": config["max_new_tokens"], "temperature": 0.0, "top_p": 1.0, "batch_size": 24}
    items, cut = [], 0
    with bar(len(prompts), "general answers") as progress:
        for batch, replies in generate_all(model, tokenizer, prompts, decoding, 0, set(), progress):
            ctx.check_stop()
            for index, reply in zip(batch, replies, strict=True):
                text = _whole_sentences(reply.text) if reply.finish_reason == "length" else reply.text
                cut += not text
                if text:
                    items.append(
                        GeneralItem(id=f"general-{index:03d}", question=questions[index], response=text, source="self")
                    )
    return sorted(items, key=lambda item: item.id), cut


_END = re.compile(r"[.!?](?=\s|$)")
_NUMBERED = re.compile(r"(^|\n)\s*\d+\.$")
"""A list's last number with nothing after it, whose full stop ends no sentence."""


def _whole_sentences(text: str) -> str:
    """Return a text up to its last whole sentence, so that a cut answer teaches no broken ending."""
    ends = [match.end() for match in _END.finditer(text)]
    text = text[: ends[-1] if ends else 0].strip()
    return _NUMBERED.sub("", text).strip()


def read(artifacts: Path) -> list[GeneralItem]:
    """Read what this step wrote."""
    return records.read(GeneralItem, artifacts / "general.jsonl")
