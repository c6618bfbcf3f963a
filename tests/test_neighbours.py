"""Nearest neighbours and near-duplicates on arrays: exact, and through inverted lists."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import scale
from persllm import duplicates
from persllm.neighbours import Neighbours

WIDTH, NONE = 64, 0
"""``exact=NONE`` sends any size through inverted lists."""


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    made = rng.standard_normal((40, WIDTH))[rng.integers(0, 40, 3000)] + 0.8 * rng.standard_normal((3000, WIDTH))
    made[2000:2200] = made[:200] + 0.1 * rng.standard_normal((200, WIDTH))
    return unit(made)


def naive(vectors, twins, cosine):
    """Return what the greedy rule says, one row after another."""
    of, kept = {}, []
    for row in range(len(vectors)):
        unit = sorted({row, int(twins[row])})
        if row != unit[0]:
            continue
        hits = [k for one in unit for k, near in zip(kept, vectors[kept] @ vectors[one], strict=True) if near >= cosine]
        for one in unit:
            of[one] = hits[0] if hits else -1
        kept += [] if hits else unit
    return of


@pytest.mark.parametrize("exact", [10_000, NONE])
def test_greedy_keeps_what_a_plain_loop_keeps(vectors, exact):
    twins = np.arange(len(vectors))
    twins[[5, 2001, 700, 701]] = [2001, 5, 701, 700]
    of, recall = duplicates.greedy(vectors, twins, 0.95, exact)
    expected = naive(vectors, twins, 0.95)
    assert {row for row in range(3000) if of[row] >= 0} == {row for row in expected if expected[row] >= 0}
    assert (of[of >= 0] >= 0).all()
    assert (of[of[of >= 0]] < 0).all()  # What a row falls to is kept.
    assert (of >= 0).sum() > 190
    assert (recall is None) == (exact > 0)
    assert recall is None or recall.share > 0.99


@pytest.mark.parametrize("exact", [10_000, NONE])
def test_across_leaves_no_near_duplicate_in_two_parts(vectors, exact):
    parts = np.arange(len(vectors)) % 3
    twins = np.arange(len(vectors))
    twins[[0, 3]] = [3, 0]
    of, _ = duplicates.across(vectors, parts, twins, 0.9, exact)
    close = vectors @ vectors.T >= 0.9
    kept = of < 0
    for here, there in ((0, 1), (0, 2), (1, 2)):
        # Against all of the later part, fallen or not.
        assert not close[np.ix_(kept & (parts == here), parts == there)].any()
    assert (of >= 0).sum() > 50
    assert (parts[of[~kept]] > parts[~kept]).all()
    assert kept[0] == kept[3]


@pytest.mark.parametrize("exact", [10_000, NONE])
def test_ties_are_the_connected_groups(vectors, exact):
    groups, _ = duplicates.tied(vectors, 0.9, exact)
    close = vectors @ vectors.T >= 0.9
    assert (groups[:, None] == groups[None, :])[close].all()
    assert all(groups[group] == group for group in set(groups.tolist()))
    alone = close.sum(1) == 1
    assert (groups[alone] == np.flatnonzero(alone)).all()
    # Through one another: 0 is like 1, 1 like 2, and 0 unlike 2.
    angles = np.deg2rad([0, 20, 40, 90])
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert duplicates.tied(chain, 0.9)[0].tolist() == [0, 0, 0, 3]


def test_exact_search_ranks_by_cosine_and_then_by_row(vectors):
    index = Neighbours(vectors)
    rows = np.array([7, 3, 2005, 9])
    twice = np.concatenate([vectors, vectors[3:4]])
    index = Neighbours(twice)
    index.add(np.append(rows, len(vectors)))
    found, near = index.search(vectors[3:4], 7)
    assert found[0, :2].tolist() == [3, len(vectors)]
    assert near[0, 0] == near[0, 1] == pytest.approx(1)
    assert found[0, 5:].tolist() == [-1, -1]
    assert (np.diff(near[0]) <= 0).all()


def test_recall_counts_what_a_search_misses(vectors):
    index = Neighbours(vectors, exact=NONE)
    index.add(np.arange(len(vectors)))
    rows = np.arange(1000)
    whole = index.recall(vectors, 1, 0.95, rows)
    assert whole is not None
    assert whole.of > 190
    assert whole.share > 0.99
    index.search = lambda queries, k, rows=None: (np.full((len(queries), k), -1), np.full((len(queries), k), -2.0))
    blind = index.recall(vectors, 1, 0.95, rows)
    assert (blind.share, blind.of) == (0.0, whole.of)
    assert Neighbours(vectors).recall(vectors, 1, 0.95) is None


DIGEST = """
import hashlib, sys
import numpy as np
from persllm import duplicates
from persllm.steps import pairs
rng = np.random.default_rng(0)
vectors = rng.standard_normal((100, 64))[rng.integers(0, 100, 4000)] + 0.7 * rng.standard_normal((4000, 64))
vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
rows = np.arange(4000)
told = hashlib.sha256()
for exact in (10_000, 0):
    told.update(duplicates.greedy(vectors, rows, 0.7, exact)[0].tobytes())
    told.update(duplicates.across(vectors, rows % 3, rows, 0.7, exact)[0].tobytes())
    told.update(duplicates.tied(vectors, 0.8, exact)[0].tobytes())
    told.update(pairs.rank_th(vectors[:2000], vectors[2000:], rows[:2000] % 7, rows[2000:] % 7, 6, exact)[0].tobytes())
print(told.hexdigest())
"""


def test_any_number_of_threads_gives_the_same_bytes():
    told = set()
    for threads in ("1", "2"):
        env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run([sys.executable, "-c", DIGEST], env=env, stdout=subprocess.PIPE, text=True, check=True)
        told.add(done.stdout)
    assert len(told) == 1
    assert len(told.pop().strip()) == len(hashlib.sha256().hexdigest())


def test_the_benchmark_finds_what_it_planted(capsys):
    assert scale.main(["1000", "4000"]) == 0
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if "ties 100.00%" in line and "duplicates 100.00%" in line]) == 2
    assert "n^" in out
