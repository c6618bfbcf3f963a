"""How dropping duplicates, splitting and pairing grow with the number of items: ``python -m benchmarks.scale``.

Items are made up: a paragraph for every four, a subject for every 64, a topic for every 5,000; unit vectors whose
cosines are like a sentence embedder's (0.56 between questions of one paragraph, 0.32 of one subject, 0.1 of one topic),
with twins, and with near-duplicates planted among questions and paragraphs. The training part is paired with a third as
many of another persona as there are items. Each size runs in a process of its own, whose peak memory counts
everything, records and vectors too. Other work on the machine lengthens the wall time; processor time is the one to
compare.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from persllm import duplicates
from persllm.embeddings import Vectors
from persllm.memory import peak_bytes
from persllm.neighbours import Rows
from persllm.records import Item
from persllm.steps import pairs, split

SIZES = (10_000, 100_000, 1_000_000)
WIDTH = 384
PER_PARAGRAPH, PER_SUBJECT, PER_TOPIC = 4, 64, 5000
DUPLICATE, LEAK, RANK = 0.95, 0.8, 6
"""The default configuration's."""
PLANTED = 0.03
"""Share of duplicates, of near-duplicates, and of near-duplicate paragraphs."""
LIMIT_BYTES = 4e9
T = TypeVar("T")


def _near(sources: Vectors, cosine: Any, rng: np.random.Generator) -> Vectors:
    """Return unit vectors at a cosine of about ``cosine`` to each of ``sources``."""
    made = np.empty_like(sources)
    for start in range(0, len(made), 65536):
        part = slice(start, start + 65536)
        noise = rng.standard_normal(made[part].shape, dtype=np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        share = np.broadcast_to(np.asarray(cosine, np.float32), len(made))[part, None]
        made[part] = share * sources[part] + np.sqrt(1 - share**2) * noise
        made[part] /= np.linalg.norm(made[part], axis=1, keepdims=True)
    return made


def _plant(vectors: Vectors, low: float, high: float, free: Rows, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Make rows of the later half (of those ``free``) near-duplicates of earlier ones; return both."""
    later = np.sort(rng.choice(free[free >= len(vectors) // 2], int(PLANTED * len(vectors)), replace=False))
    source = rng.integers(0, len(vectors) // 2, len(later))
    vectors[later] = _near(vectors[source], rng.uniform(low, high, len(later)), rng)
    return later, source


def _questions(paragraphs: Vectors, count: int, rng: np.random.Generator) -> tuple[Vectors, Rows]:
    """Return questions' vectors, and their twins: the last two of a paragraph's four."""
    rows = np.arange(count)
    twins = np.where(rows % PER_PARAGRAPH < 2, rows, rows ^ 1)
    vectors = np.empty((count, WIDTH), np.float32)
    for start in range(0, count, 65536):
        part = rows[start : start + 65536]
        vectors[part] = _near(paragraphs[part // PER_PARAGRAPH], 0.75, rng)
    vectors[3::PER_PARAGRAPH] = _near(vectors[2::PER_PARAGRAPH], 0.97, rng)
    return vectors, twins


def _items(twins: Rows, persona: str) -> list[Item]:
    """Return records as long as the shipped personas' ones."""
    patterns = ("knowledge", "opinion", "false_premise", "true_premise")
    return [
        Item(
            id=f"{row}",
            persona=persona,
            stage="early" if row < len(twins) // 2 else "late",
            pattern=patterns[row % PER_PARAGRAPH],
            material_id=f"{row // PER_PARAGRAPH}",
            premise_pair=None if twin == row else f"{twin}",
            question=f"{row}?".rjust(70),
            analysis=f"{row}".rjust(250),
            response=f"{row % 1000}.".rjust(200),
            annotator="recorded",
        )
        for row, twin in enumerate(twins.tolist())
    ]


def _shrunk(vectors: Vectors, rows: Rows) -> Vectors:
    """Keep these rows, which rise, of an array that nobody else reads; a copy would be the peak of memory."""
    for start in range(0, len(rows), 65536):
        part = rows[start : start + 65536]
        vectors[start : start + len(part)] = vectors[part]
    vectors.resize((len(rows), WIDTH), refcheck=False)
    return vectors


class Clock:
    """Wall and processor seconds of each phase."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.processor: dict[str, float] = {}

    def __call__(self, phase: str, work: Callable[..., T], *arguments: Any) -> T:
        """Do the work and add its time to the phase's."""
        wall, processor = time.perf_counter(), time.process_time()
        made = work(*arguments)
        self.wall[phase] = self.wall.get(phase, 0.0) + time.perf_counter() - wall
        self.processor[phase] = self.processor.get(phase, 0.0) + time.process_time() - processor
        return made


def measure(count: int) -> dict[str, Any]:
    """Drop duplicates, split and pair ``count`` items; return times, peak memory and what was found of the planted."""
    rng, clock = np.random.default_rng(0), Clock()
    topics = _near(np.zeros((max(4, count // PER_TOPIC), WIDTH), np.float32), 0.0, rng)
    materials = count // PER_PARAGRAPH
    subjects = _near(topics[rng.integers(0, len(topics), count // PER_SUBJECT)], 0.55, rng)
    paragraphs = _near(subjects[rng.integers(0, len(subjects), materials)], 0.75, rng)
    alike = _plant(paragraphs, 0.85, 0.97, np.arange(materials), rng)
    vectors, twins = _questions(paragraphs, count, rng)
    free = np.flatnonzero(twins == np.arange(count))
    same = _plant(vectors, 0.965, 0.995, free, rng)
    close = _plant(vectors, 0.85, 0.93, np.setdiff1d(free, same[0]), rng)
    items = _items(twins, "own")

    of, _ = clock("duplicates", duplicates.greedy, vectors, twins, DUPLICATE)
    groups, _ = clock("split", duplicates.tied, paragraphs, LEAK)
    tied = {f"{row}": f"{group}" for row, group in enumerate(groups.tolist())}
    kept = [item for item, other in zip(items, of.tolist(), strict=True) if other < 0]
    part = clock("split", split.assign, kept, 0.25, 0.1, 0, tied)
    parts = np.array([split.PARTS.index(part.get(item.material_id, "train")) for item in items])
    parts[of >= 0] = -1
    leaks, _ = clock("split", duplicates.across, vectors, parts, twins, LEAK)
    train = np.flatnonzero((parts == 0) & (leaks < 0))
    mine = [items[row] for row in train.tolist()]
    crossing = (parts[close[0]] != parts[close[1]]) & (parts[close[0]] >= 0) & (parts[close[1]] >= 0)
    del items, kept, tied, part
    own = _shrunk(vectors, train)

    foreign, twins = _questions(paragraphs, count // 3 // PER_PARAGRAPH * PER_PARAGRAPH, rng)
    del paragraphs
    pool = _items(twins, "other")
    chosen, recall = clock("pairs", pairs.rank_th, own, foreign, *pairs.numbered(mine, pool), RANK)
    made = clock("pairs", pairs.crossed, mine, pool, chosen)
    return {
        "items": count,
        "wall": clock.wall,
        "processor": clock.processor,
        "peak": peak_bytes(),
        "dropped": int((of >= 0).sum()),
        "leaking": int((leaks >= 0).sum()),
        "pairs": len(made),
        "found": {
            "duplicates": float((of[same[0]] >= 0).mean()),
            "split": float(((leaks[close[0]] >= 0) | (leaks[close[1]] >= 0))[crossing].mean()),
            "ties": float((groups[alike[0]] == groups[alike[1]]).mean()),
            "pairs": recall.share if recall else 1.0,
        },
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """Return the sizes' rows, and beneath each but the first its growth against the one before."""
    phases = ("duplicates", "split", "pairs")
    lines = [f"{'items':>9} " + " ".join(f"{phase + ' s':>18}" for phase in phases) + "   us/item  peak GB  found"]
    before = None
    for row in rows:
        spent = " ".join(f"{row['wall'][p]:>9.1f} ({row['processor'][p]:>6.1f})" for p in phases)
        each = sum(row["processor"].values()) / row["items"] * 1e6
        found = ", ".join(f"{name} {share:.2%}" for name, share in row["found"].items())
        lines.append(f"{row['items']:>9} {spent}   {each:>7.0f}  {row['peak'] / 1e9:>7.2f}  {found}")
        if before:
            factor = row["items"] / before["items"]
            grown = [np.log(row["processor"][p] / before["processor"][p]) / np.log(factor) for p in phases]
            lines.append(f"{'':>9} " + " ".join(f"{f'n^{power:.2f}':>18}" for power in grown))
        before = row
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table; return 1 where a size takes 4 GB or more."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of items, rising")
    parser.add_argument("--json", action="store_true", help="measure the first size in this process and print it")
    args = parser.parse_args(argv)
    if args.json:
        print(json.dumps(measure(args.sizes[0])))
        return 0
    rows = []
    for size in args.sizes:
        command = [sys.executable, "-m", "benchmarks.scale", str(size), "--json"]
        rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
        print(f"{size} items: {json.dumps(rows[-1])}", file=sys.stderr, flush=True)
    print(f"wall seconds (processor seconds); load {os.getloadavg()[0]:.1f}; width {WIDTH}")
    print("found: planted duplicates, planted near-duplicates across parts, planted ties, true 6 nearest\n")
    print(_table(rows))
    return int(any(row["peak"] >= LIMIT_BYTES for row in rows))


if __name__ == "__main__":
    sys.exit(main())
