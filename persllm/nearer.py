"""Which of two given replies an arm's own reply is nearer to: a reading of text without a judge.

Each sentence of the reply is set against the sentence of an option that is most like it, and their likeness averaged.
Sentence by sentence, what an option has in common with its opposite weighs no more than what parts them.
"""

from __future__ import annotations

import re

import numpy as np

from persllm.embeddings import embed

_BREAK = re.compile(r"(?<=[.!?;])\s+")
_TIE = 1e-6
"""Of a likeness: equal texts' differ by rounding."""


def nearer(replies: list[str | None], options: list[list[str]], embedder: str) -> list[int | None]:
    """Return the place of the option that each reply is most like; None without a reply, or where two are equally so.

    Embeddings know topics better than sides. On tests/data/readings.jsonl (360 replies in other words than the options,
    half of them as clumsy as a small model's; chance 50 %; 95 % Wilson intervals) this is right, with the packaged
    embedder, for

    - 82 % (76 to 86) of 240 replies to true and false premises: 85 % of those that reject a false one, 75 % of those
      that go along with it, 67 % of those that go along with a true one, all that deny it. So it leans to denial.
    - 73 % (65 to 80) of 120 opinions, kept or given up, whose two sides have most words in common. Too seldom: no
      metric reads opinions of a pack with it.

    It was chosen among some twenty readings on these very replies, and so may do a little worse elsewhere.

    Args:
        replies: what was said.
        options: for each, what it may amount to: two texts or more.
        embedder: see persllm.embeddings.
    """
    return [
        _nearest(reply, told, embedder) if reply and reply.strip() else None
        for reply, told in zip(replies, options, strict=True)
    ]


def _nearest(reply: str, options: list[str], embedder: str) -> int | None:
    said = embed(_BREAK.split(reply.strip()), embedder)
    likeness = np.array([(said @ embed(_BREAK.split(one.strip()), embedder).T).max(1).mean() for one in options])
    best = int(likeness.argmax())
    return best if (likeness > likeness[best] - _TIE).sum() == 1 else None
