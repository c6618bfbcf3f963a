"""Annotator local: a transformers model in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from persllm.annotators import REFUSED, Answer, Request
from persllm.decoding import generate_all
from persllm.language_model import chat_ids, load_base, load_tokenizer, model_source
from persllm.models import model_identity
from persllm.schema import Model
from persllm.stop import Interrupted, stop_asked


class Local:
    """A causal language model, loaded when it is first asked.

    Args:
        model: a hub id, a folder or ``package:MODULE``.
        batch_size: requests per forward pass.
        outputs: where a converted GGUF is cached.
    """

    def __init__(self, model: str, batch_size: int, outputs: Path) -> None:
        self.name = f"local:{model.removeprefix('package:')}"
        # The batch is part of the meaning: in bfloat16 its padding moves the last bits.
        self.identity = {"local": model_identity(Model(path=model)), "batch": batch_size}
        self.model = model
        self.batch_size = batch_size
        self.outputs = outputs
        self.tries = 0
        self.loaded: Any = None

    def answer(
        self, requests: list[Request], done: set[int], go_on: Callable[[], bool]
    ) -> Iterator[tuple[int, Answer]]:
        """Yield answers batch by batch; a batch of which any answer is missing is generated whole.

        A prompt that leaves no room for an answer in the model's context is refused, as a server would.
        """
        if self.loaded is None:
            source = model_source(self.model, self.outputs)
            self.loaded = load_base(source, "bfloat16"), load_tokenizer(source)
        model, tokenizer = self.loaded
        # A model that also sees has its context beside its eyes' config.
        context = int(model.config.get_text_config().max_position_embeddings)
        prompts = [chat_ids(tokenizer, request.messages) for request in requests]
        fits = [i for i, prompt in enumerate(prompts) if len(prompt) + requests[i].max_tokens <= context]
        for index in sorted(set(range(len(requests))) - set(fits) - done):
            sizes = f"{len(prompts[index])} tokens and {requests[index].max_tokens} of answer"
            self.tries += 1
            yield index, Answer(f"{sizes} are more than the model's context of {context}", REFUSED, 0, 0)
        if not fits:
            return
        first = requests[fits[0]]
        decoding = {
            "max_new_tokens": first.max_tokens,
            "temperature": first.temperature,
            "top_p": 1.0,
            "batch_size": self.batch_size,
        }
        known = {place for place, index in enumerate(fits) if index in done}
        chosen = [prompts[i] for i in fits]
        for batch, replies in generate_all(model, tokenizer, chosen, decoding, first.attempt, known, lambda _: None):
            for place, reply in zip(batch, replies, strict=True):
                index = fits[place]
                self.tries += index not in done
                yield index, Answer(reply.text, reply.finish_reason, len(prompts[index]), reply.tokens)
            if stop_asked():
                raise Interrupted
            if not go_on():
                return
