"""Nearest neighbours among unit vectors, for finding duplicates and for pairing.

Up to ``EXACT`` vectors every product is computed. Above that, faiss looks through inverted lists of some 256 vectors, a
byte a number, 8 of them a query. The centres are evenly spaced rows, moved twice into the mean of what lies nearest.
Queries that share a list are asked one after the other: what a list takes is bringing it from memory. Either way the
cosines that decide and rank are computed anew, one by one and in double precision, and equal ones rank by row. Nothing
is random, the nearest centres are found in one thread, and means are summed in order: results are the same from run to
run and for any number of threads.

Measured on the vectors of ``python -m benchmarks.scale``, in one thread. Of a million, with near-duplicates planted at
0.96 to 0.99 and at 0.85 to 0.93, this finds all and 99.3 %, and of the 6 nearest 98.6 %; of 100,000 all, all and
99.7 %. Lists of 32 whose centres a graph finds (faiss's HNSW, M 16, ef 64) took 2.4 times as long for a million, for a
vector's way through the graph grows with it, and found 99.2 % of both and 95 %. Graphs of all vectors lose more still:
of 100,000 HNSW found 99.0 % of those at 0.95 and above, usearch's 99.1 %, each in three times the lists' time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from persllm.embeddings import Vectors, one_thread

Rows = npt.NDArray[np.int64]
Cosines = npt.NDArray[np.float64]

EXACT = 20_000
"""Up to this many vectors the search is exact: some seconds of one core for all against all."""
BLOCK = 1024
"""Queries at a time: bounds the memory for products, ``[BLOCK, EXACT]`` numbers of four bytes."""
SAMPLED = 1000
"""At most this many queries measure the recall of a search that is not exact."""
_LIST, _PROBES, _ROUNDS = 256, 8, 2
_MOVING = 4
"""One row in so many moves the centres."""
_TOGETHER = 32 * BLOCK
"""Queries that are put in order by their nearest centre."""
_SPARE = 4
"""Neighbours beyond those asked for, which the lists' bytes may have put into a wrong order."""
_SLACK = 1e-4
"""More than what single precision can be off by: candidates this far below a bound are looked at again."""


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``range(count)``."""
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def cosines(left: Vectors, i: Rows, right: Vectors, j: Rows) -> Cosines:
    """Return the cosines of rows i of ``left`` with rows j of ``right``, ``[len(i)]``, whatever the others are."""
    found = np.empty(len(i))
    for block in blocks(len(i)):
        found[block] = np.einsum("ij,ij->i", left[i[block]].astype(np.float64), right[j[block]].astype(np.float64))
    return found


def above(left: Vectors, right: Vectors, cosine: float) -> tuple[Rows, Rows]:
    """Return all pairs of a row of ``left`` and one of ``right`` whose cosine is at least ``cosine``."""
    i, j = np.nonzero(left @ right.T >= cosine - _SLACK)
    close = cosines(left, i, right, j) >= cosine
    return i[close], j[close]


@dataclass(frozen=True)
class Recall:
    """How much of the truth a search that is not exact finds."""

    share: float
    """Of the true neighbours; 1 where there are none."""
    of: int
    """How many true neighbours that is a share of."""

    def __str__(self) -> str:
        return f"{self.share:.4f} of {self.of} sampled"


class Neighbours:
    """A growing set of rows of a matrix, which is asked for the nearest ones."""

    def __init__(self, vectors: Vectors, among: Rows | None = None, exact: int = EXACT) -> None:
        """Prepare an empty set.

        Args:
            vectors: unit vectors, ``[n, width]``.
            among: the rows that may be added; None for all.
            exact: up to this many such rows the search is exact.
        """
        among = np.arange(len(vectors)) if among is None else among
        self._vectors = vectors
        self._rows: Rows = np.empty(len(among), np.int64)
        self._count = 0
        self._lists = None if len(among) <= exact else _lists(vectors, among)

    @property
    def exact(self) -> bool:
        """Whether every product is computed."""
        return self._lists is None

    def add(self, rows: Rows) -> None:
        """Make these rows findable; each at most once."""
        self._rows[self._count : self._count + len(rows)] = rows
        self._count += len(rows)
        if self._lists is not None:
            import faiss

            for block in blocks(len(rows)):
                with one_thread(faiss.omp_get_max_threads, faiss.omp_set_num_threads):
                    self._lists.add_with_ids(self._vectors[rows[block]], rows[block])

    def search(self, queries: Vectors, k: int, rows: Rows | None = None) -> tuple[Rows, Cosines]:
        """Return each query's k nearest of the added rows, nearest first, and their cosines.

        Args:
            queries: unit vectors, ``[m, width]``.
            k: at least 1.
            rows: the rows of ``queries`` to ask for; None for all.

        Returns:
            Two arrays ``[queries asked, k]``. Where there are fewer neighbours, or where an inexact search finds
            fewer, the row is -1 and the cosine -2.
        """
        count = len(queries) if rows is None else len(rows)
        found, near = np.full((count, k), -1, np.int64), np.full((count, k), -2.0)
        for block in blocks(count, BLOCK if self.exact else _TOGETHER) if self._count else ():
            asked = queries[block if rows is None else rows[block]]
            i, candidates = self._all(asked, k) if self._lists is None else self._probed(asked, k)
            _rank(i, candidates, cosines(asked, i, self._vectors, candidates), found[block], near[block])
        return found, near

    def _all(self, queries: Vectors, k: int) -> tuple[Rows, Rows]:
        """Return candidates by comparing with every row: indices of queries, and rows."""
        rows = self._rows[: self._count]
        close = queries @ self._vectors[rows].T
        place = self._count - min(k, self._count)
        bound = np.partition(close, place, axis=1)[:, place, None]
        i, j = np.nonzero(close >= bound - _SLACK)
        return i, rows[j]

    def _probed(self, queries: Vectors, k: int) -> tuple[Rows, Rows]:
        assert self._lists is not None
        near, centres = _nearest(self._lists.quantizer, queries, self._lists.nprobe)
        order = np.argsort(centres[:, 0], kind="stable")
        found = self._lists.search_preassigned(queries[order], k + _SPARE, centres[order], near[order])[1]
        i, j = np.nonzero(found >= 0)
        return order[i], found[i, j]

    def recall(self, queries: Vectors, k: int, cosine: float, rows: Rows | None = None) -> Recall | None:
        """Measure the search against all products, on at most ``SAMPLED`` queries, evenly spaced.

        Args:
            queries: unit vectors, ``[m, width]``.
            k: how many neighbours are asked for.
            cosine: only neighbours at least this close count.
            rows: where the queries are rows of the matrix itself, which ones; a row is no neighbour of its own.

        Returns:
            None where the search is exact.
        """
        if self.exact:
            return None
        count = len(queries) if rows is None else len(rows)
        chosen = np.unique(np.linspace(0, count - 1, min(SAMPLED, count)).astype(np.int64))
        own = np.full(len(chosen), -1) if rows is None else rows[chosen]
        asked, more = queries[chosen if rows is None else own], k + (rows is not None)
        found, (true, near) = self.search(asked, more)[0], self._true(asked, more)
        counts = (near >= cosine) & (true != own[:, None])
        hits = (true[:, :, None] == found[:, None, :]).any(2)
        return Recall(float(hits[counts].mean()) if counts.any() else 1.0, int(counts.sum()))

    def _true(self, queries: Vectors, k: int) -> tuple[Rows, Cosines]:
        rows, near = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -2.0)
        for block in blocks(self._count):
            among = self._rows[: self._count][block]
            part = Neighbours(self._vectors, among)
            part.add(among)
            found, close = part.search(queries, k)
            both, values = np.hstack([rows, found]), np.hstack([near, close])
            order = np.lexsort((both, -values))[:, :k]
            rows, near = np.take_along_axis(both, order, 1), np.take_along_axis(values, order, 1)
        return rows, near


def _rank(queries: Rows, found: Rows, near: Cosines, rows: Rows, values: Cosines) -> None:
    """Write each query's candidates into its line of ``rows`` and ``values``, nearest first, as many as fit."""
    order = np.lexsort((found, -near, queries))
    queries, found, near = queries[order], found[order], near[order]
    place = np.arange(len(queries)) - np.searchsorted(queries, queries)
    fits = place < rows.shape[1]
    rows[queries[fits], place[fits]] = found[fits]
    values[queries[fits], place[fits]] = near[fits]


def _lists(vectors: Vectors, among: Rows) -> Any:
    """Return an empty faiss index for the rows ``among``."""
    import faiss

    width, count = vectors.shape[1], max(1, len(among) // _LIST)
    centres = vectors[among[np.linspace(0, len(among) - 1, count).astype(np.int64)]]
    for _ in range(_ROUNDS):
        _move(centres, vectors, among[::_MOVING])
    byte = faiss.ScalarQuantizer.QT_8bit
    lists = faiss.IndexIVFScalarQuantizer(_flat(centres), width, count, byte, faiss.METRIC_INNER_PRODUCT, False)
    # Of vectors, not of centres: what is learned is the range of the numbers.
    lists.train(vectors[among[:: max(1, len(among) // BLOCK)]])  # type: ignore[call-arg]
    lists.nprobe = min(_PROBES, count)
    return lists


def _move(centres: Vectors, vectors: Vectors, rows: Rows) -> None:
    """Move each centre into the direction of the mean of those rows that it is nearest to; one without stays."""
    index = _flat(centres)
    nearest = np.concatenate([_nearest(index, vectors[rows[block]], 1)[1][:, 0] for block in blocks(len(rows))])
    order = np.argsort(nearest, kind="stable")
    moved, starts = np.unique(nearest[order], return_index=True)
    for centre, members in zip(moved, np.split(order, starts[1:]), strict=True):
        mean = vectors[rows[members]].mean(0)
        centres[centre] = mean / max(float(np.linalg.norm(mean)), 1e-6)


def _flat(centres: Vectors) -> Any:
    import faiss

    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)  # type: ignore[call-arg]
    return index


def _nearest(centres: Any, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
    """Return the cosines and the numbers of each query's k nearest centres, the same for any number of threads."""
    import faiss

    with one_thread(faiss.omp_get_max_threads, faiss.omp_set_num_threads):
        return centres.search(queries, k)
