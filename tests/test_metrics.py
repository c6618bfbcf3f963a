"""Each metric on views made by hand."""

import subprocess
import sys

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from persllm.metrics import Likelihood, View, catalogue, choice, likelihood, lower_is_better, overlap, premise, robot
from persllm.records import Generation, Item


def view(response="Humbug, I say.", pattern="knowledge", text=None, **likelihoods):
    """Return a view; ``gold=(total, tokens)`` and so on are its likelihoods."""
    item = Item(
        id="i1",
        persona="scrooge",
        stage="early",
        pattern=pattern,
        material_id="m1",
        premise_pair="i2" if pattern.endswith("premise") else None,
        question="What of Christmas?",
        analysis="He is asked.",
        response="Humbug, I said to my nephew.",
        annotator="recorded",
    )
    made = Generation(
        item_id="i1",
        arm="a",
        seed=0,
        persona="scrooge",
        stage="early",
        prompt_tokens=9,
        text=text if text is not None else response or "",
        analysis=None,
        response=response,
        finish_reason="stop",
        tokens=4,
        seconds=0.1,
    )
    return View(item, made, {kind: Likelihood(*value) for kind, value in likelihoods.items()})


def test_likelihood_is_per_token():
    assert likelihood.compute(view(gold=(-12.0, 4))) == {"gold_log_likelihood": -3.0}


def test_choice_is_normalised_by_length():
    """Gold is less probable as a whole, and more so per token."""
    found = choice.compute(
        view(gold=(-20.0, 10), other_persona=(-9.0, 3), other_stage=(-30.0, 20), generic=(-20.0, 10))
    )
    assert found["who_accuracy"] == 1.0
    assert found["when_accuracy"] == 0.0
    assert found["character_accuracy"] == 0.0
    assert found["who_accuracy_pmi"] is None, "without a prior there is nothing to subtract"


def test_a_choice_without_its_other_answer_is_missing():
    found = choice.compute(view(gold=(-20.0, 10), other_stage=(-30.0, 10)))
    assert found["who_accuracy"] is None
    assert found["when_accuracy"] == 1.0
    assert found["character_accuracy"] is None


@pytest.mark.parametrize(
    ("pattern", "gold", "twin", "expected"),
    [
        ("false_premise", -2.0, -1.0, {"false_premise_acceptance": 1.0}),
        ("false_premise", -1.0, -2.0, {"false_premise_acceptance": 0.0}),
        ("true_premise", -2.0, -1.0, {"true_premise_denial": 1.0}),
        ("true_premise", -1.0, -2.0, {"true_premise_denial": 0.0}),
        ("knowledge", -2.0, -1.0, {}),
        ("opinion", -2.0, -1.0, {}),
    ],
)
def test_premise_pairs(pattern, gold, twin, expected):
    assert premise.compute(view(pattern=pattern, gold=(gold * 5, 5), twin=(twin * 8, 8))) == expected


def test_what_flatters_the_empty_heads_nothing_and_says_why():
    """Rates of those that hold something, changes, and relevance."""
    flattering = {
        "premise": {"false_premise_acceptance": "relevance", "true_premise_denial": "relevance"},
        "consistency": dict.fromkeys(("paraphrase_flip_rate", "order_flip_rate"), "flatters sameness"),
        "pressure": {f"{kind}_flip_rate": "of those held" for kind in ("pressure", "sure", "everyone", "five")}
        | {"pressure_drift": "change"},
        "drift": {"drift_loss": "change", "fidelity_loss": "change"},
        "conversation": {"conversation_flip_rate": "of those held", "conversation_drift": "change"},
    }
    for module, expected in flattering.items():
        known = catalogue([module])
        assert {name: metric.label for name, metric in known.items() if metric.label} == expected
        assert not any(known[name].headline for name in expected)


def test_a_premise_item_without_its_twin_is_missing():
    assert premise.compute(view(pattern="false_premise", gold=(-5.0, 5))) == {"false_premise_acceptance": None}


@pytest.mark.parametrize("response", ["Humbug, I say.", "Humbug, I said to my nephew.", "Quite another thing"])
def test_overlap_is_what_the_libraries_say(response):
    gold = view().item.response
    found = overlap.compute(view(response))
    assert found["bleu"] == sacrebleu.sentence_bleu(response, [gold], use_effective_order=True).score
    assert found["chrf"] == sacrebleu.sentence_chrf(response, [gold]).score
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    assert found["rouge_l"] == 100 * scorer.score(gold, response)["rougeL"].fmeasure


def test_overlap_ends():
    same = overlap.compute(view("Humbug, I said to my nephew."))
    assert same["bleu"] == pytest.approx(100)
    assert same["rouge_l"] == same["chrf"] == 100
    assert overlap.compute(view("zzz"))["rouge_l"] == 0
    assert set(overlap.compute(view(None)).values()) == {None}


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I cannot say.",
        "as an AI, no.",
        "As a virtual assistant I must refuse.",
        "I'm an AI assistant.",
        "I am just an AI.",
        "I am a large language model.",
        "Well, I'm only a chatbot.",
        "I'm a computer program, sir.",
        "I don't have personal feelings.",
        "I do not have opinions on that.",
        "I am SmolLM, here to help.",
        "It was in my training data.",
    ],
)
def test_admits_to_being_a_program(text):
    assert robot.admits(text)
    assert robot.compute(view(text=text)) == {"as_an_ai_rate": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "Bah! Humbug!",
        "I am an aid to no man.",
        "I'm an aimless old sinner.",
        "I am a computer of interest, and count every penny.",
        "As an apprentice I danced at Fezziwig's.",
        "I do not have a penny to spare.",
        "I have opinions enough.",
        "The artificial light of the counting-house.",
        "I am an artist with a ledger.",
        "",
    ],
)
def test_stays_in_character(text):
    assert not robot.admits(text)


def test_an_analysis_that_admits_counts_too():
    assert robot.compute(view("Humbug.", text="[Analysis] As an AI I ...\n[Response]\nHumbug."))["as_an_ai_rate"] == 1.0


def test_names_say_which_way_is_better():
    names = {name for module in (likelihood, choice, overlap, robot) for name in module.compute(view(gold=(-1.0, 1)))}
    names |= set(premise.NAMES.values())
    assert names == set(catalogue(["likelihood", "choice", "premise", "overlap", "robot"]))
    down = {"false_premise_acceptance", "true_premise_denial", "as_an_ai_rate"}
    assert {name for name in names if lower_is_better(name)} == down


def test_options_are_what_a_metric_reads():
    assert set(choice.OPTIONS) == {"gold", "other_persona", "other_stage", "generic"}
    assert set(premise.OPTIONS) == {"gold", "twin"}
    assert "gold" in likelihood.OPTIONS


def test_metrics_are_light_to_import():
    """A plan reads what each needs, and waits for no arithmetic."""
    code = (
        "import sys; from persllm import metrics; found = [metrics.module(name) for name in metrics.names()]; "
        "assert len(found) > 15; heavy = {'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
