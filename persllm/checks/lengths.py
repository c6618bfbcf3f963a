"""How long texts are in tokens of the configured model."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from persllm.answer import render
from persllm.checks.reading import Data
from persllm.models import local_folder, package_gguf
from persllm.prompting import GENERIC, Source, build
from persllm.records import Item
from persllm.schema import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Length:
    """Of texts of a kind, in tokens."""

    texts: int
    median: int
    high: int
    """The 95th percentile."""
    longest: int
    place: str
    """Where the longest stands."""
    cut: int
    """How many are longer than ``model.max_length``."""


@functools.lru_cache(maxsize=1)
def tokenizer(path: str, revision: str | None) -> PreTrainedTokenizerBase:
    """Return a base model's tokenizer; a packaged one is read from its GGUF file, and nothing is written.

    Args:
        path: as ``model.path``.
        revision: as ``model.revision``.

    Raises:
        UserError: there is none, or it has no chat template.
    """
    from transformers import AutoTokenizer

    from persllm.language_model import load_tokenizer

    if path.startswith("package:"):
        gguf = package_gguf(path.removeprefix("package:"))
        return AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    folder = local_folder(path)
    return load_tokenizer(str(folder) if folder else path, revision)


def _length(counted: list[tuple[int, str]], limit: int) -> Length:
    sizes = np.array([size for size, _ in counted])
    longest, place = max(counted)
    median, high = (round(float(np.percentile(sizes, q))) for q in (50, 95))
    return Length(len(counted), median, high, longest, place, int((sizes > limit).sum()))


def lengths(data: Data, model: Model) -> dict[str, Length]:
    """Return the lengths of paragraphs, questions, responses and whole turns.

    A whole turn is what supervised tuning sees: the chat with its prompt (recipe ``name``; the neutral one where no
    card is known), the analysis, the response.
    """
    from persllm.language_model import chat_ids, text_ids

    words = tokenizer(model.path, model.revision)
    kinds = {"paragraphs": data.paragraphs(), "questions": data.questions(), "responses": data.responses()}
    found = {
        kind: [(len(text_ids(words, text.text)), text.place) for text in texts]
        for kind, texts in kinds.items()
        if texts
    }
    turns = []
    for item in [*data.items, *data.general]:
        messages = [{"role": "system", "content": GENERIC}, {"role": "user", "content": item.question}]
        if data.card is not None and isinstance(item, Item):
            messages = build(Source(data.card, {"recipe": "name"}), item.stage, item.question)
        answer = render(item.analysis if isinstance(item, Item) else None, item.response)
        turns.append((len(chat_ids(words, messages)) + len(text_ids(words, answer)) + 1, data.place(item.id)))
    if turns:
        found["whole turns"] = turns
    return {kind: _length(counted, model.max_length) for kind, counted in found.items()}
