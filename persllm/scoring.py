"""Log-likelihoods of given answers: what prompts share is read once, and the rest in as few passes as fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from persllm import prefixes
from persllm.training.adapters import inner

Case = tuple[list[int], list[list[int]]]
"""A prompt's token ids, at least one, and its options' token ids, at least one each."""

TOKENS = {"cpu": 1024, "cuda": 4096}
"""Tokens read in one pass, at most, where a single case has no more: attention's work grows with their square."""
_ROWS = 256
"""Predictions made at once, so that a large vocabulary's logits stay small."""


def option_log_likelihoods(
    model: Any, cases: list[Case], each: Callable[[int], None] = lambda _: None
) -> list[list[float]]:
    """Return, by case, the summed log-probability of each option's tokens after the case's prompt, in nats.

    What all prompts of a call begin with is read once; behind it each case's remainder and options stand in one row,
    many cases to a row, where a mask lets every token see its own case's prompt and its own option alone. So a case's
    numbers change with its neighbours by rounding only: in float32 by less than 1e-4 nats an option; in bfloat16 by up
    to 0.02 nats a token (a nat on an option of 60 tokens), which is also how far whole prompts lie from float32.
    Call it with prompts that begin alike, one arm's at one stage.

    Models that keep more of a prompt than plain keys and values (see ``persllm.prefixes.shareable``) read each case
    with each of its options whole.

    Args:
        model: base or tuned model.
        cases: their prompts end with the arm's own analysis, where it analyses first.
        each: called after every pass with the number of cases done in it.
    """
    if not cases:
        return []
    net, found = inner(model), []
    with torch.inference_mode():
        if not prefixes.shareable(net):
            for case in cases:
                found.append(_whole(net, *case))
                each(1)
            return found
        # The last token of each prompt is read with its options, for it predicts their first.
        shared = min(prefixes.common([prompt for prompt, _ in cases]), *(len(prompt) - 1 for prompt, _ in cases))
        shared = shared if shared >= prefixes.WORTH else 0
        layers = prefixes.read(net, cases[0][0][:shared])
        for few in _passes([(prompt[shared:], options) for prompt, options in cases], TOKENS[net.device.type]):
            found += _pass(net, layers, shared, few)
            each(len(few))
        return found


def log_likelihoods(model: Any, prefix: list[int], options: list[list[int]]) -> list[float]:
    """Return what ``option_log_likelihoods`` returns for one case."""
    return option_log_likelihoods(model, [(prefix, options)])[0]


def _passes(cases: list[Case], room: int) -> Iterator[list[Case]]:
    few: list[Case] = []
    used = 0
    for case in cases:
        size = len(case[0]) + sum(map(len, case[1]))
        if few and used + size > room:
            yield few
            few, used = [], 0
        few.append(case)
        used += size
    if few:
        yield few


@dataclass
class _Row:
    """Cases laid out one after the other; by token where nothing else is said."""

    shared: int
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    cases: list[int] = field(default_factory=list)
    options: list[int] = field(default_factory=list)
    """0 for a prompt's tokens, else the option's number from 1."""
    predictors: list[int] = field(default_factory=list)
    """By token of an option: the place of the token before it."""
    targets: list[int] = field(default_factory=list)
    """By token of an option: itself."""
    sums: list[int] = field(default_factory=list)
    """By token of an option: which of the row's options it belongs to."""

    def add(self, case: int, option: int, tokens: list[int], position: int) -> None:
        self.ids += tokens
        self.positions += range(self.shared + position, self.shared + position + len(tokens))
        self.cases += [case] * len(tokens)
        self.options += [option] * len(tokens)


def _lay_out(cases: list[Case], shared: int) -> _Row:
    row, count = _Row(shared), 0
    for case, (rest, options) in enumerate(cases):
        row.add(case, 0, rest, 0)
        last = len(row.ids) - 1
        for number, option in enumerate(options, 1):
            row.predictors += [last, *range(len(row.ids), len(row.ids) + len(option) - 1)]
            row.targets += option
            row.sums += [count] * len(option)
            row.add(case, number, option, len(rest))
            count += 1
    return row


def _pass(net: Any, layers: prefixes.Layers, shared: int, cases: list[Case]) -> list[list[float]]:
    """Read cases, without what they share, in one row."""
    row = _lay_out(cases, shared)

    def there(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=net.device)

    hidden = net.get_decoder()(
        input_ids=there(row.ids)[None],
        position_ids=there(row.positions)[None],
        attention_mask=_mask(there(row.cases), there(row.options), shared, net.dtype),
        past_key_values=prefixes.copy(layers),
        use_cache=True,
    ).last_hidden_state[0]
    values = _log_probs(net, hidden[there(row.predictors)], there(row.targets))
    count = sum(len(options) for _, options in cases)
    totals = iter(
        torch.zeros(count, dtype=values.dtype, device=net.device).index_add(0, there(row.sums), values).tolist()
    )
    return [[next(totals) for _ in options] for _, options in cases]


def _mask(case: Tensor, option: Tensor, shared: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to Q tokens' attention to the shared prefix and to each other, [1, 1, Q, shared + Q]."""
    place = torch.arange(len(case), device=case.device)
    seen = (case[:, None] == case) & ((option == 0) | (option[:, None] == option)) & (place[:, None] >= place)
    seen = torch.nn.functional.pad(seen, (shared, 0), value=True)
    return torch.zeros(seen.shape, dtype=dtype, device=case.device).masked_fill_(~seen, torch.finfo(dtype).min)[
        None, None
    ]


def _log_probs(net: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target after the hidden state before it, [N].

    In float64, so that sums over hundreds of tokens keep their digits.
    """
    made = [
        -torch.nn.functional.cross_entropy(net.get_output_embeddings()(rows).float(), wanted, reduction="none")
        for rows, wanted in zip(hidden.split(_ROWS), targets.split(_ROWS), strict=True)
    ]
    return torch.cat(made).double()


def _whole(net: Any, prompt: list[int], options: list[list[int]]) -> list[float]:
    """Read a case's prompt with each option, one after the other."""
    found = []
    for option in options:
        ids = torch.tensor([prompt + option], device=net.device)
        hidden = net.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        found.append(float(_log_probs(net, hidden[len(prompt) - 1 : -1], ids[0, len(prompt) :]).sum()))
    return found
