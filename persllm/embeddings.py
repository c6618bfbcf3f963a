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
"""Vectors that are kept: those asked for last, some 150 MB of 384 numbers each."""


@functools.lru_cache(maxsize=2)
def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    path = str(package_folder(name.removeprefix("package:")) / "model") if name.startswith("package:") else name
    return AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()


@functools.lru_cache(maxsize=KEPT)
def _embed_one(text: str, embedder: str) -> Vectors:
    # One text at a time: padding would let a vector depend on its neighbours in the last bits, and so on the order.
    import torch

    tokenizer, model = _load(embedder)
    # RoBERTa and its like have more positions than tokens fit; a tokenizer without a limit says a huge one.
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    tokens = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        mean = model(**tokens).last_hidden_state[0].mean(0)
    return torch.nn.functional.normalize(mean, dim=0).numpy().astype(np.float32)


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

    A text's vector is kept for the next time it is asked for, up to `KEPT` of them a process.

    Args:
        texts: any texts, at least one; each is cut at the embedder's maximum length.
        embedder: ``package:NAME`` (its folder ``model/``), a folder, or a hub id.
    """
    import torch

    # A sentence is too little to share, and threads that wait for each other cost more.
    with one_thread(torch.get_num_threads, torch.set_num_threads):
        first = _embed_one(texts[0], embedder)
        found = np.empty((len(texts), len(first)), np.float32)
        for row, text in enumerate(texts):
            found[row] = _embed_one(text, embedder)
    return found
