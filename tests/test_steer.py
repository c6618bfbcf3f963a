"""Steering: the direction, the choice of layer and coefficient, and that whatever speaks or is scored is steered."""

import copy
import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from persllm import cli, compose, execute, plan, steering, validate
from persllm.errors import UserError
from persllm.language_model import chat_ids, text_ids
from persllm.prompting import GENERIC, build, profile
from persllm.schema_method import Steer
from persllm.scoring import log_likelihoods
from persllm.speaking import Speaker
from persllm.steps import evaluate, generate, split, steer
from persllm.training.batch import Sequence, collate

pytestmark = pytest.mark.pipeline
WORDS = ("generate.max_new_tokens=6", "method.steer.max_new_tokens=6", "method.steer.items=5")


@pytest.fixture(scope="module")
def cell(lab):
    return lab.cell("prompt_steer", *WORDS, "evaluate.metrics=[likelihood]")


@pytest.fixture(scope="module")
def made(lab, cell, tmp_path_factory):
    ctx = lab.context(cell.generate.inputs["steer"], tmp_path_factory.mktemp("steer") / "whole")
    steer.run(ctx)
    return ctx


def choice(ctx):
    return json.loads((ctx.out / "choice.json").read_text())


def stream(model, ids, layer):
    """Return the residual stream behind a layer, as transformers itself gives it."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]


def test_means_are_over_the_answers_tokens_alone(lab):
    model = lab.base()
    rows = [Sequence(text_ids(lab.tokenizer, a), text_ids(lab.tokenizer, b)) for a, b in (("Who?", "I."), ("?", "No!"))]
    found = steering.answer_means(model, collate(rows, 0, 1), [1])
    for row, mean in zip(rows, found, strict=True):
        expected = stream(model, row.prompt + row.completion, 1)[len(row.prompt) :].mean(0)
        torch.testing.assert_close(mean[0], expected, rtol=1e-4, atol=1e-5)


def test_the_direction_is_added_behind_its_layer_and_taken_away_again(lab):
    model, direction, seen = lab.base(), torch.randn(64), []
    ids = torch.tensor([text_ids(lab.tokenizer, "What do you make of Christmas?")])
    model.model.layers[1].register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    with torch.no_grad():
        before = model(input_ids=ids).logits
        with steering.steered(model, 1, direction):
            model(input_ids=ids)
        torch.testing.assert_close(seen[1], seen[0] + direction)
        with pytest.raises(RuntimeError), steering.steered(model, 2, direction):
            raise RuntimeError
        assert torch.equal(model(input_ids=ids).logits, before)


def test_direction_is_the_mean_difference_of_own_and_generic_answers(lab, made):
    source = split.prompt_source(made)
    lines = (made.work / "generic.jsonl").read_text().split("\n")
    generic = {row["item_id"]: row["text"] for row in map(json.loads, filter(None, lines))}
    model, chosen = lab.base(), choice(made)
    held = {item.id for part in ("dev", "test") for item in split.read(made.inputs["split"], part)}
    for stage in source.card.stages:
        items = [item for item in steer.few(source.examples, stage, 5) if generic[item.id]]
        assert {item.stage for item in items} == {stage}
        assert not held & {item.id for item in items}
        assert chosen["items"][stage] == len(items)

        def mean(messages, answer):
            prompt, ids = chat_ids(lab.tokenizer, messages), text_ids(lab.tokenizer, answer)
            return stream(model, prompt + ids, chosen["layer"])[len(prompt) :].mean(0)

        own = [mean(profile.build(source, stage, i.question), i.response) for i in items]
        plain = [{"role": "system", "content": GENERIC}]
        other = [mean([*plain, {"role": "user", "content": i.question}], generic[i.id]) for i in items]
        expected = torch.stack(own).mean(0) - torch.stack(other).mean(0)
        found = load_file(made.out / "vector.safetensors")[stage]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_best_of_the_grid_on_development_items_is_taken(lab, made):
    told = choice(made)
    assert {(one["layer"], one["coefficient"]) for one in told["tried"]} == {
        (layer, c) for layer in steer.candidates(2, None) for c in (0.25, 0.5, 1.0, 2.0)
    }
    best = max(told["tried"], key=lambda one: one["log_likelihood"])
    assert (told["layer"], told["coefficient"]) == (best["layer"], best["coefficient"])
    items = split.read(made.inputs["split"], "dev")
    assert told["dev"] == len(items)
    source, values = split.prompt_source(made), {0.0: [], 1.0: []}
    for stage in source.card.stages:
        layer, direction = steer.read(made.out, stage)
        for share, found in values.items():
            model = lab.base()
            steering.attach(model, layer, share * direction)
            for item in (one for one in items if one.stage == stage):
                before = chat_ids(lab.tokenizer, build(source, stage, item.question))
                answer = text_ids(lab.tokenizer, item.response)
                found.append(log_likelihoods(model, before, [answer])[0] / len(answer))
    assert sum(values[1.0]) / len(items) == pytest.approx(told["log_likelihood"], abs=1e-3)
    assert sum(values[0.0]) / len(items) == pytest.approx(told["unsteered"], abs=1e-3)


def test_an_interrupted_step_keeps_its_generic_answers(lab, cell, made, tmp_path, monkeypatch):
    ctx = lab.context(cell.generate.inputs["steer"], tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr("persllm.stop._stopped_by", signal.SIGTERM)
        with pytest.raises(execute.Interrupted):
            steer.run(ctx)
    kept = (ctx.work / "generic.jsonl").read_text()
    assert kept.count("item_id") == 8
    steer.run(ctx)
    assert (ctx.work / "generic.jsonl").read_text().startswith(kept)
    for name in ("choice.json", "vector.safetensors"):
        assert (ctx.out / name).read_bytes() == (made.out / name).read_bytes()


def test_whatever_speaks_or_is_scored_is_steered(lab, cell, tmp_path):
    """Each stage by its own direction; the replies and likelihoods are those of a model steered here."""
    ctx = lab.context(cell.evaluate, tmp_path / "evaluate")
    evaluate.run(ctx)
    assert generate.voices(ctx.inputs, ["early", "late"]) == [["early"], ["late"]]
    items = split.read(ctx.inputs["split"], "test")
    prompts, replies = generate.read_prompts(ctx.inputs["generate"]), generate.read(ctx.inputs["generate"])
    rows = [json.loads(line) for line in (ctx.out / "options.jsonl").read_text().splitlines()]
    gold = {row["item_id"]: row["log_likelihood"] for row in rows if row["kind"] == "gold"}
    source = split.prompt_source(lab.context(cell.generate, tmp_path / "generate"))
    for stage in ("early", "late"):
        model, other = lab.base(), lab.base()
        layer, direction = steer.read(ctx.inputs["steer"], stage)
        steering.attach(model, layer, direction)
        speaker = Speaker(model, lab.tokenizer, source, cell.generate.config)
        for item in [item for item in items if item.stage == stage][:4]:
            before, answer = prompts[item.id][1], text_ids(lab.tokenizer, item.response)
            assert gold[item.id] == pytest.approx(log_likelihoods(model, before, [answer])[0], abs=1e-2)
            assert gold[item.id] != pytest.approx(log_likelihoods(other, before, [answer])[0], abs=0.1)
            (said,) = [reply for reply in replies if reply.item_id == item.id]
            assert said.text == speaker.speak([before], 0)[0].text


def test_the_plan_shows_the_step_and_what_follows_from_it(lab, capsys):
    words = [*lab.words, "method=prompt_name,prompt_steer", "persona=scrooge"]
    assert cli.main(["plan", *words, "--json"]) == 0
    steps = {step["id"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    (found,) = [step for step in steps.values() if step["step"] == "steer"]
    readers = {step["step"] for step in steps.values() if found["id"] in step["inputs"].values()}
    assert readers == {"generate", "evaluate"}
    before = plan.build(compose.resolve(words))
    now = plan.build(compose.resolve([*words, "method.steer.items=3"]))
    old, new = ({step.id for step in made.steps} for made in (before, now))
    assert {id.split("/")[0] for id in old ^ new} == {"steer", "generate", "evaluate"}
    assert all("prompt_steer" in id for id in old ^ new)


def test_layers_to_try():
    assert steer.candidates(30, None) == [8, 15, 22]
    assert steer.candidates(2, None) == [1, 2]
    assert steer.candidates(1, None) == [1]
    assert steer.candidates(30, 30) == [30]
    with pytest.raises(UserError, match=r"method\.steer\.layer is 31; expected at most 30"):
        steer.candidates(30, 31)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=prompt_steer", "method.steer.coefficients=[0.0]"], "method.steer.coefficients is [0.0]; expected"),
        (["method=prompt_steer", "method.steer.coefficients=[]"], "method.steer.coefficients is []; expected"),
    ],
)
def test_refusals(words, message, capsys):
    assert cli.main(["plan", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_tuned_arm_is_not_steered_too():
    config = copy.deepcopy(compose.resolve(["method=sft", "persona=scrooge"]).config)
    assert not list(validate.problems(config))
    config.method.steer = Steer()
    assert any("method.steer is set for tuned method 'sft'" in told for told in validate.problems(config))
