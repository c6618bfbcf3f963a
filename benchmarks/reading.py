"""Prompts that begin alike: what they share read once, against every prompt read whole."""

from __future__ import annotations

from typing import Any

from benchmarks.generation import Ours, Plain
from benchmarks.measure import Round, Side, clock
from benchmarks.workload import Workload
from persllm.scoring import Case, option_log_likelihoods


class Together:
    """``option_log_likelihoods`` on all cases in one call."""

    def __init__(self, model: Any, cases: list[Case], name: str = "persllm, all cases") -> None:
        self.name, self.model, self.cases = name, model, cases

    def run(self) -> Round:
        """Weigh all options."""
        began = clock()
        found = self._weigh()
        tokens = sum(len(option) for _, options in self.cases for option in options)
        return Round(clock() - began, tokens=tokens, losses=[value for values in found for value in values])

    def _weigh(self) -> list[list[float]]:
        return option_log_likelihoods(self.model, self.cases)


class Alone(Together):
    """The same options, each prompt read whole, once for all its options."""

    def __init__(self, model: Any, cases: list[Case]) -> None:
        super().__init__(model, cases, "a prompt at a time")

    def _weigh(self) -> list[list[float]]:
        return [option_log_likelihoods(self.model, [case])[0] for case in self.cases]


def replying(model: Any, work: Workload, cases: list[Case], new_tokens: int) -> list[Side]:
    """Return both ways of replying to the prompts, all in one batch."""
    prompts = [prompt for prompt, _ in cases]
    return [
        Ours(model, work, prompts, new_tokens, len(prompts)),
        Plain(model, work, prompts, new_tokens, len(prompts)),
    ]


def weighing(model: Any, cases: list[Case]) -> list[Side]:
    """Return both ways of weighing the options."""
    return [Together(model, cases), Alone(model, cases)]
