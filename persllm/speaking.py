"""An arm that speaks: its weights, its prompts, and how its text becomes a response."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from persllm.answer import parse, prefix
from persllm.choices import Recipe
from persllm.decoding import Reply, generate_batch
from persllm.errors import UserError
from persllm.language_model import chat_ids, positions, text_ids
from persllm.prompting import Message, Source, build, further


@dataclass(frozen=True)
class Prompt:
    """What an arm is given before it replies, and what it has spent until then on passes of its own."""

    messages: list[Message]
    ids: list[int]
    forgotten: int = 0
    """How many of the oldest turns were left out to make room."""
    read: int = 0
    """Tokens of the prompts of earlier passes."""
    tokens: int = 0
    """Generated in earlier passes."""
    seconds: float = 0.0
    """Spent on earlier passes."""
    earlier: tuple[int, int] = (0, 0)
    """Between which places of ``messages`` the earlier turns of the conversation stand."""

    @property
    def prompt_tokens(self) -> int:
        """How many tokens are read, over all passes."""
        return self.read + len(self.ids)


class Asked(NamedTuple):
    """A question to an arm."""

    stage: str
    """At which it speaks."""
    question: str
    before: list[Message]
    """Earlier turns of the conversation, user and assistant by turns."""


@dataclass(frozen=True)
class Speaker:
    """One arm at the stages that share its weights."""

    model: Any
    tokenizer: Any
    source: Source
    config: dict[str, Any]
    """The arm's semantic config: arm, prompt, tune, generate, model."""
    raw: bool = False
    """Whether a question is plain text to be read on from, without a chat's form."""

    def framed(self, frame: str) -> Speaker:
        """Return the same weights in another frame (see ``persllm.probes.FRAMES``); ``role`` is the arm itself."""
        if frame == "role":
            return self
        prompt = self.source.config | {"recipe": Recipe.none.value}
        config = self.config | {"prompt": self.config["prompt"] | {"recipe": Recipe.none.value}, "tune": None}
        return replace(self, source=replace(self.source, config=prompt), config=config, raw=frame == "raw")

    @property
    def analyses(self) -> bool:
        """Whether it analyses before it responds."""
        return bool(self.config["tune"] and self.config["tune"]["analysis"])

    @property
    def room(self) -> int:
        """How many tokens a prompt may have: what the model's own context leaves beside a reply."""
        return (positions(self.model) or self.memory) - self.config["generate"]["max_new_tokens"]

    @property
    def memory(self) -> int:
        """How many tokens of earlier turns a prompt keeps at most: the same for every arm, however long its prompt."""
        return self.config["model"]["max_length"]

    def prompt(self, stage: str, question: str, before: list[Message] | None = None) -> Prompt:
        """Return the prompt for a question.

        Args:
            stage: at which the arm speaks.
            question: what it is asked.
            before: earlier turns of the conversation, user and assistant by turns; the oldest are left out where they
                do not fit into the arm's memory or the model's context.

        Raises:
            UserError: without any earlier turn the prompt is still too long.
        """
        if self.raw:
            return Prompt([{"role": "user", "content": question}], self.ids(question))
        messages, before, forgotten = build(self.source, stage, question), before or [], 0
        alone = len(self._fitting(messages).ids)
        while True:
            kept = [*messages[:-1], *before[2 * forgotten :], messages[-1]]
            ids = chat_ids(self.tokenizer, kept)
            if len(ids) <= min(self.room, alone + self.memory):
                return Prompt(kept, ids, forgotten, earlier=(len(messages) - 1, len(kept) - 1))
            forgotten += 1

    def _fitting(self, messages: list[Message]) -> Prompt:
        ids = chat_ids(self.tokenizer, messages)
        if len(ids) > self.room:
            raise UserError(
                f"a prompt of {self.config['arm']} has {len(ids)} tokens; the context of model.path without "
                f"generate.max_new_tokens leaves {self.room}: lower method.prompt's shots or words, or take another "
                "model"
            )
        return Prompt(messages, ids)

    def compose(self, asked: list[Asked], seed: int, temperature: float | None = None) -> list[Prompt]:
        """Return what some questions' replies are made from: prompts, after the arm's own passes where it makes any.

        Args:
            asked: answered together, pass by pass.
            seed: fixes what is drawn in those passes.
            temperature: see ``speak``.

        Raises:
            UserError: without any earlier turn a prompt is still too long.
        """
        prompts = [self.prompt(*one) for one in asked]
        requests = [further(self.source, one.stage, one.question) for one in asked]
        for number, texts in enumerate(zip(*requests, strict=True), 1):
            # The reply itself is drawn with the bare seed.
            replies = self.speak([prompt.ids for prompt in prompts], seed + 500_009 * number, temperature)
            prompts = [self._after(*one) for one in zip(prompts, replies, texts, strict=True)]
        return prompts

    def _after(self, prompt: Prompt, reply: Reply, text: str) -> Prompt:
        """Return the next pass's prompt, which is longer: more of the oldest turns may be left out."""
        turn: list[Message] = [{"role": "assistant", "content": reply.text}, {"role": "user", "content": text}]
        messages, (start, end), forgotten = [*prompt.messages, *turn], prompt.earlier, prompt.forgotten
        while end > start and len(chat_ids(self.tokenizer, messages)) > self.room:
            messages, end, forgotten = messages[:start] + messages[start + 2 :], end - 2, forgotten + 1
        return replace(
            self._fitting(messages),
            forgotten=forgotten,
            earlier=(start, end),
            read=prompt.prompt_tokens,
            tokens=prompt.tokens + reply.tokens,
            seconds=prompt.seconds + reply.seconds,
        )

    def speak(self, prompts: list[list[int]], seed: int, temperature: float | None = None) -> list[Reply]:
        """Return a reply to each prompt's token ids, decoded as the arm's section ``generate`` says.

        Args:
            prompts: token ids.
            seed: fixes sampling.
            temperature: another one than the section's.
        """
        decoding = (
            self.config["generate"] if temperature is None else self.config["generate"] | {"temperature": temperature}
        )
        return generate_batch(self.model, self.tokenizer, prompts, decoding, seed)

    def ids(self, text: str) -> list[int]:
        """Return the token ids of plain text."""
        return text_ids(self.tokenizer, text)

    def parse(self, text: str) -> tuple[str | None, str | None]:
        """Return the analysis and the response of what was generated; see ``persllm.answer.parse``."""
        return parse(text, self.analyses)

    def lead_in(self, analysis: str | None) -> list[int]:
        """Return the token ids that stand before a response: the arm's own analysis, where it makes one."""
        return self.ids(prefix(analysis or "")) if self.analyses else []
