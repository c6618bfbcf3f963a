"""No probe of a shipped pack asks what one of its items asks: an arm could have been tuned on that item's answer."""

import numpy as np
import pytest

from persllm import pack_probes, packs
from persllm.embeddings import embed
from persllm.records import read_json_lines
from persllm.schema import Split

EMBEDDER, SAME = Split().embedder, Split().duplicate_cosine
ASKED = {"stances": ("question", "paraphrases", "either"), "moments": ("question",), "premises": ("false", "true")}


def probe_questions(rows):
    """Return (place, question) of all that a pack's probe rows ask."""
    found = []
    for kind, fields in ASKED.items():
        for stage, own in rows.get(kind, {}).items():
            for row in own:
                for name in fields:
                    texts = row[name] if isinstance(row[name], list) else [row[name]]
                    found += [(f"{stage}/{kind} {row['id']} {name}", text) for text in texts]
    return found


def item_questions(root, stages):
    return [
        (f"{stage}/items {row['id']}", row["question"])
        for stage in stages
        for _, row in read_json_lines(root / stage / "items.jsonl")
    ]


def near_duplicates(asked, items):
    """Return (probe, item, cosine) of each pair of questions that say the same."""
    close = embed([text for _, text in asked], EMBEDDER) @ embed([text for _, text in items], EMBEDDER).T
    return [(asked[a][0], items[b][0], round(float(close[a, b]), 3)) for a, b in np.argwhere(close >= SAME)]


@pytest.mark.parametrize("name", ["brannoch", "creature", "dantes", "elizabeth", "ottoline", "scrooge"])
def test_no_probe_asks_what_an_item_asks(name):
    root = packs.folder(name)
    stages = list(packs.load_card(root).stages)
    asked, items = probe_questions(pack_probes.read(root, stages)), item_questions(root, stages)
    assert len(asked) == len(stages) * (12 * 5 + 20 + 12 * 2)
    assert len(items) >= 100
    assert near_duplicates(asked, items) == []


def test_a_question_in_nearly_the_same_words_is_found():
    items = [("a", "Who paid for the turkey that went to Camden Town?"), ("b", "Do you like ghosts?")]
    asked = [("x", "Who paid for the turkey which went to Camden Town?"), ("y", "What is a workhouse for?")]
    ((probe, item, cosine),) = near_duplicates(asked, items)
    assert (probe, item) == ("x", "a")
    assert SAME <= cosine < 1
