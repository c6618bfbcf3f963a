"""Counted BLEU, and the other overlaps, are what the libraries say, and cheap enough for a hundred thousand replies."""

import itertools
import random
import time

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from persllm import packs
from persllm.bleu import bleu, count, likeness
from persllm.metrics import overlap

ODD = [
    "", " ", "a", "a a a a a a", "a b", "No.", "No. No. No.", "&quot;Why?&quot; &amp; so on\nand on", "5,000.50-odd 3-",
    "It's well-known -- e.g. in St. Mary's; (perhaps)", "naïve café … “quoted” – 東京タワー", "İstanbul'da <skipped> x",
]  # fmt: skip


@pytest.fixture(scope="module")
def texts():
    """Return shipped responses with the other stage's answers to the same questions beside them."""
    found = packs.load(packs.folder("scrooge"))
    again = {one.item_id: one.response for one in found.reanswers}
    return [text for item in found.items[::4] for text in (item.response, again[item.id])]


def reference(text, gold):
    return sacrebleu.sentence_bleu(text, [gold], use_effective_order=True).score


def test_bleu_is_sacrebleus(texts):
    chosen = [*texts[:30], *ODD]
    counted = [count(text) for text in chosen]
    for one, other in itertools.product(range(len(chosen)), repeat=2):
        told = reference(chosen[one], chosen[other])
        assert bleu(counted[one], counted[other]) == pytest.approx(told, abs=1e-9), (chosen[one], chosen[other])
    assert {bleu(counted[place], counted[place]) > 99.999 for place in range(30)} == {True}


def test_likeness_is_of_both_directions():
    one, other = count("the cat sat on the mat"), count("the cat sat")
    assert bleu(one, other) != bleu(other, one)
    assert likeness(one, other) == likeness(other, one) == (bleu(one, other) + bleu(other, one)) / 2


def test_repeated_words_are_clipped():
    assert bleu(count("the the the the"), count("the cat sat down")) == pytest.approx(
        reference("the the the the", "the cat sat down"), abs=1e-9
    )


def test_rouge_and_chrf_are_the_libraries(texts):
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    for one, other in [*itertools.pairwise(texts), *itertools.product(ODD, repeat=2)]:
        told = 100 * scorer.score(other, one)["rougeL"].fmeasure
        assert overlap.rouge_l(one, other) == pytest.approx(told, abs=1e-9), (one, other)
        told = sacrebleu.sentence_chrf(one, [other]).score
        assert overlap.chrf(one, other) == pytest.approx(told, abs=1e-9), (one, other)


def test_a_pair_is_many_times_cheaper_than_sacrebleu(texts):
    """Forty times was measured over all pairs of 24 texts; a machine with other work may show less."""
    pairs = random.Random(0).choices(list(itertools.permutations(texts[:40], 2)), k=1500)
    counted = {text: count(text) for text in texts}
    reference(*pairs[0])

    def seconds(function):
        start = time.process_time()
        for pair in pairs:
            function(*pair)
        return time.process_time() - start

    slow = min(seconds(reference) for _ in range(2))
    quick = min(seconds(lambda one, other: bleu(counted[one], counted[other])) for _ in range(2))
    assert slow > 10 * quick


def test_a_hundred_thousand_responses_take_minutes(texts):
    """All three overlaps: at 250 a second, a seventh of what was measured, they take less than seven minutes."""
    pairs = list(itertools.pairwise(texts))
    start = time.process_time()
    for one, other in pairs * 3:
        bleu(count(one), count(other))
        overlap.rouge_l(one, other)
        overlap.chrf(one, other)
    assert 3 * len(pairs) / (time.process_time() - start) > 250
