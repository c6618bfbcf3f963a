"""Step general: instruction data that is mixed in, so that a personified model keeps its general manners."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from persllm import records
from persllm.decoding import generate_all
from persllm.errors import UserError
from persllm.execute import Context
from persllm.language_model import chat_ids, load_base, load_tokenizer, model_source
from persllm.progress import bar
from persllm.prompting import GENERIC
from persllm.records import GeneralItem

PROMPTS = Path(__file__).parent.parent / "general_prompts.txt"


def turn(row: dict[str, Any]) -> tuple[str, str] | None:
    """Return the first question and answer of a row in chat-message, ShareGPT or Alpaca form, or None."""
    if isinstance(row.get("messages"), list):
        turns = [(m.get("role"), m.get("content")) for m in row["messages"]]
    elif isinstance(row.get("conversations"), list):
        turns = [
            ({"human": "user", "gpt": "assistant"}.get(m.get("from")), m.get("value")) for m in row["conversations"]
        ]
    elif "instruction" in row:
        question = "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)
        turns = [("user", question), ("assistant", row.get("output"))]
    else:
        return None
    for (asker, question), (answerer, answer) in pairwise(turns):
        if asker == "user" and answerer == "assistant" and question and answer:
            return str(question), str(answer)
    return None


def _from_datasets(source: str, split: str, limit: int) -> tuple[list[GeneralItem], int]:
    """Return at most ``limit`` items of a JSON Lines or Parquet file or hub id, and how many rows had no turn."""
    import datasets

    suffix = Path(source).suffix.lower()
    try:
        if suffix in (".json", ".jsonl", ".parquet"):
            kind = "parquet" if suffix == ".parquet" else "json"
            rows = datasets.load_dataset(kind, data_files=source, split="train", streaming=True)
        else:
            rows = datasets.load_dataset(source, split=split, streaming=True)
        found, skipped = [], 0
        for index, row in enumerate(rows):
            if len(found) == limit:
                break
            made = turn(dict(row))
            if made is None:
                skipped += 1
            else:
                found.append(GeneralItem(id=f"general-{index}", question=made[0], response=made[1], source=source))
    except Exception as error:
        raise UserError(f"general.source={source}: cannot be read ({str(error).splitlines()[0]})") from error
    return found, skipped


def run(ctx: Context) -> None:
    """Write ``general.jsonl``."""
    config = ctx.config["general"]
    if config["source"] != "self":
        items, skipped = _from_datasets(config["source"], config["split"], config["limit"])
        if not items:
            raise UserError(
                f"general.source={config['source']}: no row has a question and an answer; expected messages, "
                "conversations (ShareGPT) or instruction/output (Alpaca)"
            )
        ctx.log(items=len(items), skipped=skipped)
        records.write(ctx.out / "general.jsonl", items)
        return
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
    ctx.log(items=len(items), dropped_unfinished=cut)
    records.write(ctx.out / "general.jsonl", sorted(items, key=lambda item: item.id))


def _whole_sentences(text: str) -> str:
    """Return a text up to its last full stop, so that a cut answer teaches no broken ending."""
    end = max(text.rfind(mark) for mark in (". ", ".\n", "! ", "? "))
    return text if text.endswith((".", "!", "?")) else text[: end + 1].strip()


def read(artifacts: Path) -> list[GeneralItem]:
    """Read what this step wrote."""
    return records.read(GeneralItem, artifacts / "general.jsonl")
