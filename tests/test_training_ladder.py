"""The tuned methods, one ingredient more each, and budgets that give them equally many sequences."""

import collections
import itertools
import random

import pytest
import tiny as tiny_module

from persllm import cli, compose, plan, workload
from persllm.choices import PairKind
from persllm.records import PREMISES
from persllm.steps import pairs, split
from persllm.training import setup
from persllm.training.schedule import make_schedule
from persllm.validate import flatten

pytestmark = pytest.mark.pipeline

LADDER = ["sft", "sft_analysis", "sft_anti_induction", "sft_stages", "dpo_persona", "persllm"]
QUICK = ["method.tune.repeat=1", "method.tune.analysis=false", "method.tune.general=false"]
QUICK += ["method.tune.reanswers=false", "method.tune.materials=false"]
LENGTHS = [random.Random(7).randrange(5, 90) for _ in range(45)]


def counts(schedule):
    return collections.Counter(unit for step in schedule.steps for micro in step for unit in micro)


# ---- the ladder ----


def test_each_method_adds_one_ingredient():
    methods = [compose.resolve([f"method={name}", "persona=scrooge"]).config.method for name in LADDER]
    assert all(method.prompt == methods[0].prompt and method.prompt.recipe == "brief" for method in methods)
    added = []
    for lower, upper in itertools.pairwise(methods):
        before, after = dict(flatten(lower.tune)), dict(flatten(upper.tune))
        added.append({key for key in before.keys() | after.keys() if before.get(key) != after.get(key)})
    assert added[:3] == [{"analysis"}, {"anti_induction"}, {"temporal_label"}]
    assert all(key.startswith("dpo") for key in added[3])
    assert added[4] == {"dpo.pairs"}
    plain = methods[0].tune
    assert (plain.temporal_label, plain.analysis, plain.anti_induction, plain.dpo) == ("none", False, False, None)


def test_arms_that_begin_alike_are_trained_once_for_all(lab):
    words = [*lab.words, "method=sft_stages,dpo_persona,persllm", "persona=scrooge"]
    made = plan.build(compose.resolve(words))
    first = {cell.cell.arm: cell.train[0] for cell in made.cells}
    assert first["sft_stages"] is first["dpo_persona"] is first["persllm"]
    assert sum(step.name == "train" and step.config["objective"] == "sft" for step in made.steps) == 1
    # What follows is each arm's own.
    assert len({step.id for cell in made.cells for step in cell.train[1:]}) == 4
    assert len({cell.generate.id for cell in made.cells}) == 3
    other = plan.build(compose.resolve([*words, "method=sft_anti_induction,persllm"]))
    assert len({cell.train[0].id for cell in other.cells}) == 2


def test_plain_tuning_sees_no_stage_no_analysis_and_no_premise(lab, tmp_path):
    ctx = lab.context(lab.cell("sft").train[0], tmp_path / "sft")
    made = setup.prepare(ctx, str(lab.model), False)
    items = split.read(ctx.inputs["split"], "train")
    texts = [lab.tokenizer.decode(unit[0].prompt + unit[0].completion) for unit in made.train]
    kept = [item for item in items if item.pattern not in PREMISES]
    for item in kept:
        (one, two) = [text for text in texts if f"{item.question}<|end|>" in text and item.response in text]
        assert one == two
        assert "It is" not in one.split("<|user|>")[0]
        assert "[Analysis]" not in one
    assert not any(item.question in text for item in items if item.pattern in PREMISES for text in texts)


# ---- kinds of pairs ----


@pytest.mark.parametrize("kind", list(PairKind))
def test_a_method_chooses_among_the_pairs_that_are_made(lab, tmp_path, kind):
    both = lab.cell("persllm", *QUICK)
    cell = lab.cell("persllm", *QUICK, f"method.tune.dpo.pairs=[{kind}]")
    assert cell.train[1].inputs["pairs"] is not both.train[1].inputs["pairs"]
    assert cell.train[1].inputs["pairs"].id == both.train[1].inputs["pairs"].id
    for step in cell.train[1:]:
        ctx = lab.context(step, tmp_path / step.config["stage"])
        for part in ("train", "dev"):
            made = pairs.read(ctx.inputs["pairs"], part)
            assert {pair.kind for pair in made} == set(PairKind)
            own = setup._own_pairs(ctx, part)
            assert own == [pair for pair in made if pair.kind == kind and pair.stage == step.config["stage"]]


def test_a_kind_that_is_not_made_is_refused(capsys):
    words = ["method=dpo_persona", "persona=scrooge", "pairs.cross_persona=false"]
    assert cli.main(["plan", *words]) == 2
    assert "method.tune.dpo.pairs is [cross_persona], of which the section pairs makes none" in capsys.readouterr().err


def test_what_is_null_is_as_if_it_were_not_there(lab):
    """Arms of before the two fields keep their fingerprints."""
    optim = lab.cell("persllm").train[1].config["optim"]
    assert not {"steps", "pairs"} & set(optim)
    assert lab.cell("persllm", "method.tune.dpo.steps=3").train[1].config["optim"]["steps"] == 3
    assert lab.cell("dpo_persona").train[1].config["optim"]["pairs"] == ["cross_persona"]


# ---- budgets ----


@pytest.mark.parametrize("steps", [1, 3, 5, 6, 17])
def test_steps_repeat_or_cut_the_epochs(steps):
    schedule = make_schedule(LENGTHS, 8, 4, 2, seed=3, steps=steps)
    assert len(schedule.steps) == steps
    assert schedule.repeated == 0
    found = counts(schedule)
    assert sum(found.values()) == 8 * steps
    # Whole epochs hold each unit once; the last one is cut.
    assert set(found.values()) <= {8 * steps // 45, -(-8 * steps // 45)}
    # Reshuffled: as a run of as many epochs, up to the cut.
    epochs = make_schedule(LENGTHS, 8, 4, -(-8 * steps // 45), seed=3).steps
    assert schedule.steps == epochs[:steps]


def test_fewer_units_than_a_batch_are_repeated_within_it():
    schedule = make_schedule(LENGTHS[:3], 8, 4, 1, seed=0, steps=2)
    assert sorted(counts(schedule).values()) == [5, 5, 6]


@pytest.mark.parametrize(("objective", "name"), [(0, "sft"), (1, "dpo")])
def test_a_budget_is_kept_whatever_there_is_to_learn(lab, tmp_path, objective, name):
    words = [*QUICK, f"method.tune.{name}.steps=5", f"method.tune.{name}.batch_size=4", "strategy.micro_batch=2"]
    words += [f"method.tune.{name}.validations=5", f"method.tune.{name}.patience=9"]
    ctx = lab.train(tmp_path / name, "persllm", *words, objective=objective)
    rows = tiny_module.curves(ctx)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(row["val_loss"] is not None for row in rows)
    # The cosine ends where the budget does.
    assert rows[-1]["learning_rate"] < 0.3 * max(row["learning_rate"] for row in rows)


def test_the_work_of_a_budget_is_known_beforehand(lab):
    config = lab.cell("persllm", "method.tune.sft.steps=7", "method.tune.dpo.steps=3").cell.config
    pack = workload.Pack(None, [], [], [])  # type: ignore[arg-type]
    assert workload._units(config.method.tune.sft, 1000) == 7 * 16
    assert workload._units(config.method.tune.dpo, 1000) == 3 * 8
    assert workload.sft_units(config, config.method.tune, pack) == 7 * 16
