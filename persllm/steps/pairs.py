"""Step pairs: automatic preferences against other personas and against the same persona at another stage.

Built as in arXiv 2407.12393 (automatic DPO): cross-persona rejections are the answer to the other personas' rank-th
nearest question, or to the next one whose answer differs; cross-stage ones are the other stage's answer to the same
question.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from persllm import records
from persllm.embeddings import Vectors, embed
from persllm.errors import UserError
from persllm.execute import Context
from persllm.neighbours import EXACT, Neighbours, Recall, Rows, blocks
from persllm.records import Item, Pair, Reanswer
from persllm.steps import split
from persllm.store import write_json

WINDOW = 10
"""How many neighbours after the rank-th are looked at where its answer does not differ."""


def rank_th(
    own: Vectors, foreign: Vectors, answers: Rows, foreign_answers: Rows, rank: int, exact: int = EXACT
) -> tuple[Rows, Recall | None]:
    """Return for each own question the row of the foreign one whose answer is rejected.

    That is the nearest foreign question from the rank-th on whose answer differs from the own one; where none of the
    next ``WINDOW`` does (or there are no more), the farthest before it whose answer differs.

    Args:
        own: unit vectors of the own questions, ``[n, width]``.
        foreign: of the others', ``[m, width]``, m at least 1.
        answers: the own answers, as numbers: equal texts have equal ones, ``[n]``.
        foreign_answers: the others' answers, ``[m]``.
        rank: 1 is the nearest; capped by m.
        exact: see persllm.neighbours.

    Returns:
        ``[n]`` rows of ``foreign``, -1 where none of these answers differs; and the search's recall, None where exact.
    """
    index = Neighbours(foreign, exact=exact)
    index.add(np.arange(len(foreign)))
    k, start = min(len(foreign), rank + WINDOW), min(rank, len(foreign)) - 1
    chosen = np.full(len(own), -1, np.int64)
    for block in blocks(len(own)):
        found = index.search(own[block], k)[0]
        differs = (found >= 0) & (foreign_answers[found] != answers[block, None])
        nearer = k - 1 - np.argmax((differs & (np.arange(k) < start))[:, ::-1], axis=1)
        place = np.where(differs[:, start:].any(1), start + np.argmax(differs[:, start:], axis=1), nearer)
        some = np.flatnonzero(differs.any(1))
        chosen[block][some] = found[some, place[some]]
    return chosen, index.recall(own, start + 1, -1.0)


def numbered(items: list[Item], pool: list[Item]) -> tuple[Rows, Rows]:
    """Return the answers of both as numbers, equal for equal texts, ``[len(items)]`` and ``[len(pool)]``."""
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(item.response, len(numbers)) for item in items]
    return np.array(own, np.int64), np.array([numbers.setdefault(o.response, len(numbers)) for o in pool], np.int64)


def crossed(items: list[Item], pool: list[Item], chosen: Rows) -> list[Pair]:
    """Return the pairs of items with what ``rank_th`` chose from the pool for each, fewer where it chose nothing."""
    found = []
    for item, row in zip(items, chosen.tolist(), strict=True):
        if row >= 0:
            other = pool[row]
            found.append(_pair(item.id, item, item.stage, "cross_persona", item, other, f"{other.persona}/{other.id}"))
    return found


def cross_persona(items: list[Item], pool: list[Item], rank: int, embedder: str) -> tuple[list[Pair], Recall | None]:
    """Return one pair per item: own answer chosen, the answer to a nearby foreign question rejected (see ``rank_th``).

    Args:
        items: own items.
        pool: other personas' items of the same part.
        rank: 1 is the nearest; capped by the pool's size.
        embedder: see persllm.embeddings.

    Returns:
        The pairs, fewer than items where no answer in reach differs; and the search's recall, None where exact.
    """
    if not items or not pool:
        return [], None
    own, foreign = (embed([item.question for item in some], embedder) for some in (items, pool))
    chosen, recall = rank_th(own, foreign, *numbered(items, pool), rank)
    return crossed(items, pool, chosen), recall


def cross_stage(items: list[Item], reanswers: list[Reanswer]) -> list[Pair]:
    """Return two pairs per re-answered item: a stage's answer is chosen for its own stage, rejected for the other.

    Where both stages give the same answer there is nothing to prefer, and no pair.
    """
    by_id = {item.id: item for item in items}
    found = []
    for again in reanswers:
        item = by_id.get(again.item_id)
        if item is not None and item.response != again.response:
            own = f"{item.id}-{again.stage}"
            found.append(_pair(own, item, item.stage, "cross_stage", item, again, again.stage))
            found.append(_pair(f"{item.id}@{again.stage}", item, again.stage, "cross_stage", again, item, item.stage))
    return found


def _pair(
    name: str, item: Item, stage: str, kind: str, chosen: Item | Reanswer, rejected: Item | Reanswer, origin: str
) -> Pair:
    return Pair(
        id=f"{kind}-{name}",
        persona=item.persona,
        stage=stage,
        kind=kind,
        pattern=item.pattern,
        prompt=item.question,
        chosen=[chosen.analysis, chosen.response],
        rejected=[rejected.analysis, rejected.response],
        rejected_from=origin,
    )


def _limited(pairs: list[Pair], limit: int | None) -> list[Pair]:
    """Keep at most ``limit`` pairs, the stages in turn, in the order of a hash and not of the file."""
    met: Counter[str] = Counter()
    ranked = []
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(pair.id.encode()).digest()):
        ranked.append((met[pair.stage], pair))
        met[pair.stage] += 1
    return [pair for _, pair in sorted(ranked, key=lambda entry: entry[0])][:limit]


def run(ctx: Context) -> None:
    """Write ``train.jsonl`` and ``dev.jsonl`` of pairs, and ``pairs.json`` with counts."""
    config = ctx.config
    told: dict[str, int | str] = {}
    foreign = [path for role, path in sorted(ctx.inputs.items()) if role.startswith("other_")]
    reanswers = split.read_reanswers(ctx.inputs["split"])
    counts: dict[str, dict[str, int]] = {}
    for part in ("train", "dev"):
        items = split.read(ctx.inputs["split"], part)
        kinds: dict[str, list[Pair]] = {}
        if config["cross_persona"]:
            pool = [item for path in foreign for item in split.read(path, part)]
            kinds["cross_persona"], recall = cross_persona(items, pool, config["rank"], config["embedder"])
            told[f"{part}_without_differing_answer"] = len(items) - len(kinds["cross_persona"])
            if recall:
                told[f"{part}_recall"] = str(recall)
        if config["cross_stage"]:
            kinds["cross_stage"] = cross_stage(items, reanswers)
        for kind, made in kinds.items():
            if not made:
                raise UserError(
                    f"pairs.{kind} is on but no {kind} pair can be built for the {part} part: "
                    + (
                        f"no question of its {len(items)} items is answered differently by another stage"
                        if kind == "cross_stage"
                        else f"no other persona has a differing answer to a question near its {len(items)} items"
                    )
                    + f"; switch it off with pairs.{kind}=false"
                )
        limits = {kind: config[f"{kind}_limit" if part == "train" else "dev_limit"] for kind in kinds}
        kept = {kind: _limited(made, limits[kind]) for kind, made in kinds.items()}
        records.write(ctx.out / f"{part}.jsonl", [pair for made in kept.values() for pair in made])
        counts[part] = {kind: len(made) for kind, made in kept.items()}
    write_json(ctx.out / "pairs.json", counts)
    ctx.log(**{f"{part}_{kind}": n for part, found in counts.items() for kind, n in found.items()}, **told)


def read(artifacts: Path, part: str) -> list[Pair]:
    """Read one part's pairs."""
    return records.read(Pair, artifacts / f"{part}.jsonl")
