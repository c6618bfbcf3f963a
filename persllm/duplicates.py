"""Near-duplicates among unit vectors: dropped greedily, dropped across parts, or tied together.

Everything works on arrays of rows, so that a million fit; see persllm.neighbours for when a search is exact.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from persllm.embeddings import Vectors
from persllm.neighbours import BLOCK, EXACT, Neighbours, Recall, Rows, above, blocks

_TIES = 32
"""Nearest ones that are looked at for ties where the search is not exact; more are tied through one another."""


def greedy(vectors: Vectors, twins: Rows, cosine: float, exact: int = EXACT) -> tuple[Rows, Recall | None]:
    """Drop, in order, each row that is too close to one kept before (arXiv 2407.12393).

    Twins are decided together, in the place of the first: they are not each other's duplicates, and fall together.

    Args:
        vectors: unit vectors, ``[n, width]``.
        twins: each row's twin, or the row itself, ``[n]``.
        cosine: from here on two rows are duplicates.
        exact: see persllm.neighbours.

    Returns:
        For each row the kept row that it (or its twin) duplicates, -1 where it is kept itself; and the search's recall.
    """
    rows = np.arange(len(vectors))
    order = np.lexsort((rows, np.minimum(rows, twins)))
    index, of = Neighbours(vectors, exact=exact), np.full(len(vectors), -1)
    start = 0
    while start < len(order):
        stop = min(len(order), start + BLOCK)
        if stop < len(order) and twins[order[stop - 1]] == order[stop]:
            stop += 1
        block = order[start:stop]
        before, near = index.search(vectors, 1, block)
        _decide(vectors, block, np.where(near[:, 0] >= cosine, before[:, 0], -1), twins, cosine, of)
        index.add(block[of[block] < 0])
        start = stop
    return of, index.recall(vectors, 1, cosine, rows)


def _decide(vectors: Vectors, block: Rows, before: Rows, twins: Rows, cosine: float, of: Rows) -> None:
    """Fill in ``of`` for a block of rows, of which ``before`` says what each duplicates in earlier blocks (or -1)."""
    inside = defaultdict(list)
    for later, earlier in zip(*above(vectors[block], vectors[block], cosine), strict=True):
        if earlier < later and block[earlier] != twins[block[later]]:
            inside[int(later)].append(int(block[earlier]))
    for place in np.flatnonzero(before >= 0).tolist():
        inside[place].insert(0, int(before[place]))
    for place in sorted(inside):
        row = block[place]
        kept = [other for other in inside[place] if of[other] < 0]
        if of[row] < 0 and kept:
            of[row] = of[twins[row]] = kept[0]


def across(vectors: Vectors, parts: Rows, twins: Rows, cosine: float, exact: int = EXACT) -> tuple[Rows, Recall | None]:
    """Drop each row that is too close to one of a later part that is kept; its twin falls with it.

    Args:
        vectors: unit vectors, ``[n, width]``.
        parts: each row's part, 0, 1 or 2, ``[n]``. Twins are of one part.
        twins: each row's twin, or the row itself, ``[n]``.
        cosine: from here on two rows are near-duplicates.
        exact: see persllm.neighbours.

    Returns:
        For each row the nearest kept row of a later part, -1 where it is kept; and the lowest recall of the searches.
    """
    of = np.full(len(vectors), -1)
    recalls = []
    # What falls of the middle part is no reason to drop any of the first.
    for here, there in ((1, 2), (0, 1), (0, 2)):
        later, rows = (np.flatnonzero((parts == part) & (of < 0)) for part in (there, here))
        if not len(later) or not len(rows):
            continue
        index = Neighbours(vectors, later, exact)
        index.add(later)
        found, near = index.search(vectors, 1, rows)
        close = near[:, 0] >= cosine
        of[rows[close]] = found[close, 0]
        recalls.append(index.recall(vectors, 1, cosine, rows))
        fallen = rows[close]
        fallen = fallen[of[twins[fallen]] < 0]
        of[twins[fallen]] = of[fallen]
    return of, min((recall for recall in recalls if recall), key=lambda recall: recall.share, default=None)


def tied(vectors: Vectors, cosine: float, exact: int = EXACT) -> tuple[Rows, Recall | None]:
    """Tie near-duplicates, and theirs, into groups.

    Args:
        vectors: unit vectors, ``[n, width]``.
        cosine: from here on two rows are near-duplicates.
        exact: see persllm.neighbours.

    Returns:
        Each row's group, named by its first row; and the search's recall.
    """
    first = list(range(len(vectors)))

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]
            row = first[row]
        return row

    index = Neighbours(vectors, exact=exact)
    index.add(np.arange(len(vectors)))
    for block in blocks(len(vectors)):
        if index.exact:
            i, j = above(vectors[block], vectors[: block.stop], cosine)
        else:
            found, near = index.search(vectors[block], _TIES)
            i, place = np.nonzero(near >= cosine)
            j = found[i, place]
        for one, other in zip((i + block.start).tolist(), j.tolist(), strict=True):
            low, high = sorted((root(one), root(other)))
            first[high] = low
    groups = np.array([root(row) for row in range(len(first))], np.int64)
    return groups, index.recall(vectors, _TIES, cosine, np.arange(len(vectors)))
