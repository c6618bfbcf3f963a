"""The comparisons: their sides, ratios and guards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks import generation as texts
from benchmarks import reading as prompts
from benchmarks.measure import Measured, Round, Side, measure, ratio
from benchmarks.table import Guard, Row, Section
from benchmarks.training import Job, Ours, make_job
from benchmarks.workload import Workload
from persllm import prefixes
from persllm.language_model import load_base

FIRST = {"bfloat16": 0.02, "float32": 1e-3}
"""How far first losses may differ, in nats: the sides round in different places."""


def _equal(what: str, values: Sequence[float], within: float) -> Guard:
    told = ", ".join(f"{value:.5f}" for value in values)
    return Guard(what, f"{told} (within {within:g})", max(values) - min(values) <= within)


def _exact(job: Job, sides: Callable[[Job], list[Side]]) -> Guard:
    """Compare the losses after one update, in float32.

    In bfloat16 Adam's first update turns rounding noise in small gradients into whole steps, on one side as on the
    other; in float32 the sides must agree.
    """
    losses = [side.run().losses[-1] for side in sides(job)]
    return _equal("loss after an update, float32", losses, FIRST["float32"])


def _in_float32(work: Workload) -> Workload:
    return dataclasses.replace(work, model=work.model | {"dtype": "float32"})


def _training_guards(work: Workload, found: list[Measured]) -> list[Guard]:
    first = [side.rounds[0] for side in found]
    same = len({(done.tokens, done.learned) for done in first}) == 1
    counts = ", ".join(f"{done.tokens:,}/{done.learned:,}" for done in first)
    dtype = work.model["dtype"]
    return [
        Guard("tokens read/with loss", counts, same),
        _equal(f"first loss, {dtype}", [done.losses[0] for done in first], FIRST[dtype]),
    ]


def sft(work: Workload, batch_size: int, accumulation: int, rounds: int, folder: str) -> Section:
    """Compare one SFT step with ``SFTTrainer``."""
    from benchmarks.peer import Peer

    def sides(job: Job) -> list[Side]:
        return [Ours(job), Peer(job, folder)]

    found = measure(sides(make_job(work, "sft", 1, batch_size, batch_size // accumulation)), rounds)
    ours, peer = found
    guards = _training_guards(work, found)
    guards.append(_exact(make_job(_in_float32(work), "sft", 2, 2, 1), sides))
    return Section("SFT", [Row(f"step / {peer.name}", ratio(ours.seconds, peer.seconds), rounds)], found, guards)


def dpo(work: Workload, batch_size: int, accumulation: int, rounds: int, folder: str) -> Section:
    """Compare one DPO step with ``DPOTrainer``, with its reference forward in each step and ahead of them."""
    from benchmarks.peer import Peer

    def sides(job: Job) -> list[Side]:
        return [Ours(job), Peer(job, folder), Peer(job, folder, precompute=True)]

    found = measure(sides(make_job(work, "dpo", 1, batch_size, batch_size // accumulation)), rounds)
    ours, *peers = found
    rows = [Row(f"step / {peer.name}", ratio(ours.seconds, peer.seconds), rounds) for peer in peers]
    rows += [
        Row(f"step and reference once / {peer.name}", ratio(ours.with_reference, peer.with_reference), rounds)
        for peer in peers
    ]
    guards = _training_guards(work, found)
    guards.append(_exact(make_job(_in_float32(work), "dpo", 2, 2, 1), sides))
    return Section("DPO", rows, found, guards)


def generation(work: Workload, new_tokens: int, rounds: int) -> Section:
    """Compare generating greedy replies with plain ``generate``, one and eight prompts at a time."""
    few = work.prompts[: max(2, len(work.prompts) // 4)]
    exact = [side.run().texts for side in texts.sides(_in_float32(work), few, new_tokens)]
    found = measure(texts.sides(work, work.prompts, new_tokens), rounds, flops=False)
    ours, *peers = found
    guards = [
        Guard(
            "same texts, float32",
            f"{texts.share_equal(exact[0], other):.0%} of {len(few)} as {peer.name}",
            exact[0] == other,
        )
        for peer, other in zip(peers, exact[1:], strict=True)
    ]
    own = ours.rounds[0].texts
    dtype = work.model["dtype"]
    guards += [
        Guard(
            f"same texts, {dtype}",
            f"{texts.share_equal(own, peer.rounds[0].texts):.0%} of {len(own)} as {peer.name}",
            own == peer.rounds[0].texts if dtype == "float32" else None,
        )
        for peer in peers
    ]
    rows = [Row(f"/ {peer.name}", ratio(ours.seconds, peer.seconds), rounds) for peer in peers]
    return Section("text", rows, found, guards)


EQUAL = 1e-4
"""How far likelihoods may differ in float32, in nats an option."""


def reading(work: Workload, new_tokens: int, rounds: int) -> list[Section]:
    """Compare replies and likelihoods behind a prefix that is read once with those behind whole prompts."""
    sections = []
    dtype = work.model["dtype"]
    model = load_base(work.source, dtype, work.model["revision"])
    exact = load_base(work.source, "float32", work.model["revision"])
    for cases, count in ((work.cases, rounds), (work.long_cases, 1)):
        length = prefixes.common([prompt for prompt, _ in cases])
        ours, peer = found = measure(prompts.replying(model, work, cases, new_tokens), count, flops=False)
        one, other = (side.run().texts for side in prompts.replying(exact, work, cases[:2], new_tokens))
        share = texts.share_equal(ours.rounds[0].texts, peer.rounds[0].texts)
        guards = [
            Guard("same texts, float32", f"{texts.share_equal(one, other):.0%} of {len(one)}", one == other),
            Guard(f"same texts, {dtype}", f"{share:.0%} of {len(cases)}", True if share == 1 else None),
        ]
        row = Row(f"of {len(cases)} replies", ratio(ours.seconds, peer.seconds), count)
        sections.append(Section(f"{length} shared,", [row], found, guards))
        ours, peer = found = measure(prompts.weighing(model, cases), count, flops=False)
        apart = _apart([side.run() for side in prompts.weighing(exact, cases[:2])])
        guards = [
            Guard("same likelihoods, float32", f"within {apart:.6f} nats", apart <= EQUAL),
            Guard(f"same likelihoods, {dtype}", f"within {_apart([ours.rounds[0], peer.rounds[0]]):.3f} nats", None),
        ]
        row = Row(f"likelihoods, {len(cases)} x {len(cases[0][1])}", ratio(ours.seconds, peer.seconds), count)
        sections.append(Section(f"{length} shared,", [row], found, guards))
    return sections


def _apart(rounds: list[Round]) -> float:
    return max(abs(one - other) for one, other in zip(*(done.losses for done in rounds), strict=True))
