"""Sentence embeddings, for retrieval and for finding near-duplicates."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from persllm.models import package_folder

Vectors = npt.NDArray[np.float32]
KEPT = 100_000
"""Vectors that are kept: the newest, some 150 MB of 384 numbers each."""
BATCH = 4
"""Texts of one length that are read at once: neither fewer nor more."""
CHUNK = 10_000
"""Texts that are told apart by length at once."""
_kept: dict[str, dict[str, Vectors]] = {}
"""Vectors by embedder and text."""


@functools.lru_cache(maxsize=2)
def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    path = str(package_folder(name.removeprefix("package:")) / "model") if name.startswith("package:") else name
    return AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()


def _batches(tokens: list[list[int]]) -> Iterator[list[int]]:
    """Yield places of ``BATCH`` texts of one length each, the last ones filled up by their first."""
    places: dict[int, list[int]] = {}
    for place, ids in enumerate(tokens):
        places.setdefault(len(ids), []).append(place)
    for same in places.values():
        for start in range(0, len(same), BATCH):
            batch = same[start : start + BATCH]
            yield batch + batch[:1] * (BATCH - len(batch))


def _embed_new(texts: list[str], embedder: str) -> Vectors:
    # Padding, or batches of several sizes, would let a vector depend on its neighbours in the last bits, and so on the
    # order.
    import torch

    tokenizer, model = _load(embedder)
    # RoBERTa and its like have more positions than tokens fit; a tokenizer without a limit says a huge one.
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    tokens = tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
    found = np.empty((len(texts), model.config.hidden_size), np.float32)
    for batch in _batches(tokens):
        with torch.inference_mode():
            means = model(input_ids=torch.tensor([tokens[place] for place in batch])).last_hidden_state.mean(1)
        found[batch] = torch.nn.functional.normalize(means, dim=1).float().numpy()
    return found


@contextlib.contextmanager
def one_thread(get: Callable[[], int], put: Callable[[int], None]) -> Iterator[None]:
    """Let a library compute in one thread meanwhile.

    Args:
        get: returns its number of threads.
        put: sets it.
    """
    threads = get()
    put(1)
    try:
        yield
    finally:
        put(threads)


def embed(texts: list[str], embedder: str) -> Vectors:
    """Return unit vectors, ``[len(texts), width]``, by mean pooling over tokens.

    A text's vector is kept for the next time it is asked for, the newest `KEPT` of them a process.

    Args:
        texts: any texts, at least one; each is cut at the embedder's maximum length.
        embedder: ``package:NAME`` (its folder ``model/``), a folder, or a hub id.
    """
    import torch

    # A sentence is too little to share, and threads that wait for each other cost more.
    kept = _kept.setdefault(embedder, {})
    new = [text for text in dict.fromkeys(texts) if text not in kept]
    with one_thread(torch.get_num_threads, torch.set_num_threads):
        for start in range(0, len(new), CHUNK):
            some = new[start : start + CHUNK]
            kept.update(zip(some, _embed_new(some, embedder), strict=True))
    found = np.stack([kept[text] for text in texts])
    # The oldest stand first.
    for text in list(kept)[: max(0, len(kept) - KEPT)]:
        del kept[text]
    return found
