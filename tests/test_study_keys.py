"""Keys that a study fixes or sweeps without any effect are refused; the command line's groups overrule its values."""

import shutil

import pytest

from persllm import compose
from persllm.errors import UserError

BASE = "name: fixed\narms: [prompt_name, sft]\npersonas: [scrooge]\nbaseline: prompt_name\n"


@pytest.fixture
def resolve(tmp_path, monkeypatch):
    """Resolve a study whose file ends as given."""
    shutil.copytree(compose.CONF, tmp_path / "conf")
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")

    def made(text, *words):
        (tmp_path / "conf" / "study" / "fixed.yaml").write_text(BASE + text)
        return compose.resolve(["study=fixed", *words])

    return made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("values: {seed: 1}", r"study\.values: seed has no effect here.*study\.seeds"),
        ("values: {study.primary: x}", r"study\.values: study\.primary has no effect here"),
        ("values: {persona.stages: [late]}", r"study\.values: persona\.stages has no effect.*study\.personas"),
        ("values: {evalate.limit: 4}", r"study\.values: evalate\.limit.*did you mean 'evaluate'.*expected keys of"),
        ("values: {evaluate: full}", r"study\.values: evaluate is a group; choose its option in study\.groups"),
        ("values: {evaluate.limt: 4}", r"evaluate\.limt: unknown key"),
        ("arm_values: {sft: {seed: 1}}", r"study\.arm_values\.sft: seed has no effect"),
        ("arm_values: {sft: {compare.seed: 1}}", r"study\.arm_values\.sft: compare\.seed has no effect.*expected keys"),
        ("arm_values: {persllm: {foo.bar: 1}}", r"study\.arm_values\.persllm: foo\.bar has no effect"),
        (
            "arm_values: {prompt_name: {method.tune.repeat: 2}}",
            r"study\.arm_values\.prompt_name: method\.tune\.repeat has no effect, its section is null",
        ),
        (
            "sweep: {compare.resamples: [100, 200]}",
            r"compare\.resamples makes no arm different; give it without a list",
        ),
        ("sweep: {seed: [0, 1]}", r"study\.sweep\.seed: list seeds in study\.seeds"),
        (
            "arm_values: {sft: {method.tune.sft.steps: 9, method.tune.sft.epochs: 2}}",
            r"method\.tune\.sft\.epochs has no effect in sft: method\.tune\.sft\.steps is 9",
        ),
    ],
)
def test_what_has_no_effect_is_refused(resolve, text, told):
    with pytest.raises(UserError, match=told):
        resolve(text)


@pytest.mark.parametrize(
    "word", ["compare.power=0.7,0.8", "launch.threads=1,2", "track.mode=offline,disabled", "outputs=a,b",
             "study.primary=a,b", "strategy.micro_batch=4,8", "judge.endpoint.retries=1,2"],
)  # fmt: skip
def test_a_sweep_that_makes_no_arm_different_is_refused(word):
    key = word.split("=")[0]
    with pytest.raises(UserError, match=rf"{key} makes no arm different; give it without a list"):
        compose.resolve(["method=sft", "persona=scrooge", word])


def test_a_group_on_the_command_line_overrules_the_studys_values(resolve):
    text = "values: {evaluate.limit: 4, generate.top_p: 0.5, method.tune.repeat: 7}"
    plain, chosen = resolve(text), resolve(text, "evaluate=core", "method=sft")
    assert (plain.config.evaluate.limit, plain.notes) == (4, [])
    assert chosen.config.evaluate.limit is None
    assert chosen.config.generate.top_p == 0.5
    assert chosen.config.method.tune.repeat == 7
    assert "evaluate=core on the command line takes the place of study.values' evaluate.limit" in chosen.notes


def test_a_value_on_the_command_line_overrules_the_studys_sweep(resolve):
    found = resolve("sweep: {pairs.rank: [4, 6]}", "pairs.rank=5")
    assert [(cell.arm, cell.config.pairs.rank) for cell in found.cells] == [("prompt_name", 5), ("sft", 5)]


@pytest.mark.parametrize(
    "word", ["method.tune.sft.epochs=2", "method.tune.sft.epochs=2,3", "method.tune.sft={epochs: 2}"]
)
def test_epochs_beside_steps_are_refused_until_the_steps_are_taken_back(resolve, word):
    text = "arm_values: {sft: {method.tune.sft.steps: 9}}"
    with pytest.raises(UserError, match=r"method\.tune\.sft\.epochs has no effect in sft: .*steps=null"):
        resolve(text, word)
    cells = resolve(text, word, "method.tune.sft.steps=null").cells
    assert next(cell.config.method.tune.sft.epochs for cell in cells if cell.config.method.tune) == 2
