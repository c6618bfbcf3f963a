"""The likeliest sequence of speakers: a second-order chain over the turns of a conversation."""

from __future__ import annotations

import numpy as np

from persllm.ingest.scenes import Scene

_AGAIN, _BACK, _AGAIN_APART, _BACK_APART = -3.0, 2.2, -0.6, 0.6
_BESIDE = 0.5
"""For two quotations of one paragraph."""


def best_sums(scores: np.ndarray, scene: Scene) -> np.ndarray:
    """Return the best sum of a sequence through each (turn, speaker): max-marginals of a second-order chain."""
    turns, people = scores.shape
    same = np.eye(people)

    def step(n: int) -> np.ndarray:
        """Points for speakers (n-2, n-1, n)."""
        again, back = (_AGAIN_APART, _BACK_APART) if scene.apart[n] else (_AGAIN, _BACK)
        if scene.turns[n].first == scene.turns[n - 1].last:
            again, back = _BESIDE, _BESIDE
        points = np.broadcast_to(again * same, (people, people, people)).copy()
        if n >= 2:
            points += back * same[:, None, :] * (1 - same)[None, :, :]
        return points

    if turns == 1:
        return scores
    forward = [np.zeros((people, people))] * turns
    forward[1] = scores[0][:, None] + scores[1][None, :] + step(1)[0]
    for n in range(2, turns):
        forward[n] = (forward[n - 1][:, :, None] + step(n)).max(axis=0) + scores[n][None, :]
    backward = np.zeros((people, people))
    best = np.zeros_like(scores)
    for n in range(turns - 1, 0, -1):
        total = forward[n] + backward
        best[n] = total.max(axis=0)
        if n == 1:
            best[0] = total.max(axis=1)
        else:
            backward = (step(n) + (scores[n][None, :] + backward)[None, :, :]).max(axis=2)
    return best
