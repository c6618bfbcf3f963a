"""Bad input of every kind: exit code 2, one clear sentence, nothing written."""

import json
import shutil

import pytest
from conftest import MODEL
from fakes import make_pack

from persllm import cli, compose, packs
from persllm.errors import UserError

PROMPTED = ["method=prompt_name"]


def refused(capsys, tmp_path, words, verb="run", sentences=1):
    """Run a verb that must refuse a study of one cell; return what it says, a sentence for each problem."""
    outputs = tmp_path / "out"
    default = {"method": "persllm", "persona": "scrooge", "outputs": str(outputs)}
    given = {word.split("=")[0] for word in words}
    code = cli.main([verb, *words, *(f"{key}={value}" for key, value in default.items() if key not in given)])
    told = capsys.readouterr()
    assert code == 2
    assert not outputs.exists()
    assert told.out == ""
    assert told.err.count("error: ") == sentences
    assert len(told.err.strip().splitlines()) == sentences
    assert "Traceback" not in told.err
    return told.err


@pytest.mark.parametrize("verb", ["plan", "status", "retry", "compare", "report", "doctor"])
def test_every_verb_refuses(capsys, tmp_path, verb):
    assert "pairs.rank is 0; expected more than 0" in refused(capsys, tmp_path, ["pairs.rank=0"], verb)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pairs.rnak=3"], ["pairs.rnak", "did you mean 'rank'"]),
        (["method.tune.dpo.bta=1"], ["method.tune.dpo.bta", "did you mean 'beta'"]),
        (["pairs.rank=six"], ["pairs.rank=six", "Integer"]),
        (["pairs.rank=0"], ["pairs.rank is 0", "more than 0"]),
        (["split.test=0"], ["split.test is 0.0", "between 0 and 1"]),
        (["generate.top_p=0"], ["generate.top_p is 0", "at most 1"]),
        (["model.dtype=int8"], ["model.dtype=int8", "float32, bfloat16"]),
        (["seed=half"], ["seed=half", "whole number"]),
        (["seed=1,1"], ["seed=1", "twice"]),
        (["persona=scroge"], ["persona=scroge", "did you mean 'scrooge'"]),
        (["persona=./nowhere"], ["persona=./nowhere", "no such folder"]),
        (["persona.stages=[middle]"], ["persona.stages", "no stage 'middle'", "early, late"]),
        (
            ["method=persllm", "persona.stages=[late]"],
            ["pairs.cross_stage is on", "one stage", "pairs.cross_stage=false"],
        ),
        (["method=perslm"], ["method=perslm", "did you mean 'persllm'", "conf/method/"]),
        ([*PROMPTED, "strategy.kind=zero2"], ["strategy.kind is zero2", "only prompts", "strategy=single"]),
        ([*PROMPTED, "method.tune.repeat=2"], ["method.tune.repeat", "no arm of this study has it"]),
        (["+pairs.extra=1"], ["+pairs.extra", "key=value"]),
        (["~pairs"], ["~pairs", "key=value"]),
        (["scrooge"], ["'scrooge'", "expected key=value"]),
        (["pairs.rank=[1"], ["'pairs.rank=[1'", "expected key=value"]),
        (["model=hf", "model.path=./nowhere"], ["model.path=./nowhere", "config.json"]),
        (["model=hf", "model.path=package:no_such_model"], ["package:no_such_model", "pip install"]),
        (["model=hf"], ["model.path must be given"]),
        (["split.embedder=package:no_such_embedder"], ["split.embedder", "pip install"]),
        (["study=nope"], ["study=nope", "conf/study/"]),
        (["study=quickstart,quickstart"], ["study cannot be swept"]),
        (["study.baseline=perslm"], ["study.baseline=perslm", "did you mean 'persllm'"]),
        (["study.primary=likelihod"], ["study.primary is 'likelihod'", "evaluate.metrics"]),
        (["evaluate.metrics=[overlp]"], ["evaluate.metrics", "did you mean 'overlap'"]),
        (["split.test=0.6", "split.dev=0.4"], ["split.test + split.dev is 1", "nothing is left"]),
        (["--jsno"], ["--jsno", "--help"]),
    ],
)
def test_refuses(capsys, tmp_path, words, expected):
    told = refused(capsys, tmp_path, words)
    for text in expected:
        assert text in told


def test_lists_every_problem_at_once(capsys, tmp_path):
    assert cli.main(["run", "method=sft", "pairs.rank=0", "generate.temperature=-1", f"outputs={tmp_path}/out"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: pairs.rank is 0; expected more than 0",
        "error: generate.temperature is -1.0; expected 0 or more",
    ]


def test_unknown_verb(capsys):
    assert cli.main(["pln"]) == 2
    assert "did you mean 'plan'" in capsys.readouterr().err


def test_outputs_under_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    told = refused(capsys, tmp_path, [f"outputs={tmp_path}/file/out"])
    assert f"outputs={tmp_path}/file/out: cannot write there" in told


@pytest.fixture
def conf(tmp_path, monkeypatch):
    shutil.copytree(compose.CONF, tmp_path / "conf")
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    return tmp_path / "conf"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("pairs/automatic.yaml", "rnk: 3\n", ["conf/pairs/automatic.yaml", "rnk", "did you mean 'rank'"]),
        ("pairs/automatic.yaml", "rank: many\n", ["conf/pairs/automatic.yaml", "rank", "Integer"]),
        ("method/persllm.yaml", "name: x\ntune: {lora: {rnk: 3}}\n", ["conf/method/persllm.yaml", "rnk", "'rank'"]),
        ("study/quickstart.yaml", "name: q\narm: [sft]\n", ["conf/study/quickstart.yaml", "did you mean 'arms'"]),
        ("pairs/automatic.yaml", "rank: [1\n", ["not valid YAML", "automatic.yaml"]),
    ],
)
def test_refuses_a_bad_file(capsys, tmp_path, conf, file, text, expected):
    (conf / file).write_text(text)
    told = refused(capsys, tmp_path, [])
    for part in expected:
        assert part in told


def test_a_new_method_is_one_new_file(tmp_path, conf):
    (conf / "method" / "longer.yaml").write_text("name: longer\nprompt: {recipe: name}\ntune: {sft: {epochs: 3}}\n")
    resolved = compose.resolve(["method=longer,sft", "persona=scrooge", "study.baseline=sft"])
    assert [cell.arm for cell in resolved.cells] == ["longer", "sft"]


def _replace(root, name, text):
    (root / name).write_text(text)


def _drop(root, name, _):
    shutil.rmtree(root / name)


@pytest.mark.parametrize(
    ("change", "name", "text", "expected", "sentences"),
    [
        (_replace, "early/knowledge.txt", "\n", ["early/knowledge.txt", "empty", "one a line"], 1),
        (_replace, "late/items.jsonl", '{"id": "a"\n', ["late/items.jsonl:1", "not valid JSON"], 1),
        (_replace, "late/items.jsonl", '\n{"id": "a"}\n', ["late/items.jsonl:2", "'pattern'", "are missing"], 5),
        (_replace, "persona.yaml", "name: [\n", ["persona.yaml", "not valid YAML"], 1),
        (_replace, "persona.yaml", "name: A\n", ["persona.yaml", "mapping of stages"], 3),
        (_drop, "late", None, ["late", "no folder for stage 'late'"], 1),
    ],
)
def test_refuses_a_bad_pack(capsys, tmp_path, change, name, text, expected, sentences):
    root = make_pack(tmp_path, "abel")
    change(root, name, text)
    told = refused(capsys, tmp_path, [f"persona={root}", *MODEL], sentences=sentences)
    for part in expected:
        assert part in told


def test_refuses_a_folder_that_is_no_pack(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no persona.yaml in this folder" in refused(capsys, tmp_path, [f"persona={tmp_path}/empty"])


def test_refuses_two_packs_of_one_name(capsys, tmp_path):
    one, two = make_pack(tmp_path / "x", "abel"), make_pack(tmp_path / "y", "abel")
    assert "persona=abel stands twice" in refused(capsys, tmp_path, [f"persona={one},{two}"])


def test_sweeps_expand():
    resolved = compose.resolve(["method=prompt_rag,persllm", "persona=scrooge", "seed=range(0,3)", "pairs.rank=4,6"])
    cells = [(cell.arm, cell.seed) for cell in resolved.cells]
    arms = [f"{method}[pairs.rank={rank}]" for method in ("prompt_rag", "persllm") for rank in (4, 6)]
    assert cells == [(arm, seed) for arm in arms for seed in (0, 1, 2)]


def test_the_last_word_on_a_key_counts():
    words = ["method=prompt_name,sft", "method=sft", "persona=ottoline", "persona=scrooge", "seed=3", "seed=0,1"]
    assert [(c.arm, c.persona, c.seed) for c in compose.resolve(words).cells] == [
        ("sft", "scrooge", 0),
        ("sft", "scrooge", 1),
    ]


def test_an_axis_applies_to_the_arms_that_have_it():
    resolved = compose.resolve(["method=prompt_rag,persllm", "persona=scrooge", "method.tune.dpo.beta=0.1,0.5"])
    assert [cell.arm for cell in resolved.cells] == [
        "prompt_rag",
        "persllm[tune.dpo.beta=0.1]",
        "persllm[tune.dpo.beta=0.5]",
    ]
    betas = [cell.config.method.tune.dpo.beta for cell in resolved.cells if cell.config.method.tune]
    assert betas == [0.1, 0.5]
    assert "method.tune.dpo.beta applies to 1 of 2 arms" in resolved.notes


def test_a_study_file_may_sweep(conf):
    (conf / "study" / "ranks.yaml").write_text(
        "name: ranks\narms: [persllm]\npersonas: [scrooge]\nbaseline: persllm\nsweep: {pairs.rank: [4, 6]}\n"
    )
    cells = compose.resolve(["study=ranks"]).cells
    assert [cell.config.pairs.rank for cell in cells] == [4, 6]


def test_stages_hold_for_every_persona():
    cells = compose.resolve(["method=sft", "persona.stages=[late]"]).cells
    assert [(cell.persona, cell.config.persona.stages) for cell in cells] == [
        ("scrooge", ["late"]),
        ("ottoline", ["late"]),
    ]


def test_plan_of_a_refused_study_is_no_json(capsys, tmp_path):
    refused(capsys, tmp_path, ["pairs.rank=0", "--json"], "plan")
    assert cli.main(["plan", "persona=scrooge", "method=sft", *MODEL, f"outputs={tmp_path}/out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "quickstart"


def test_a_folder_that_bears_a_shipped_name_is_the_folder(tmp_path, monkeypatch):
    make_pack(tmp_path, "scrooge")
    monkeypatch.chdir(tmp_path)
    (cell,) = compose.resolve(["persona=./scrooge", "method=sft"]).cells
    assert packs.folder(cell.config.persona.pack) == tmp_path / "scrooge"


def test_cross_stage_pairs_need_reanswers(capsys, tmp_path):
    pack = make_pack(tmp_path, "mute")
    for file in pack.glob("*/reanswers.jsonl"):
        file.unlink()
    told = refused(capsys, tmp_path, [f"persona={pack}", "model=hf", "model.path=none/tiny"])
    assert "pairs.cross_stage is on" in told
    assert "no reanswers.jsonl" in told
    assert "pairs.cross_stage=false" in told


def test_a_study_fixes_groups_and_values_and_the_command_line_overrules_them(monkeypatch, tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(compose.CONF, conf)
    (conf / "study" / "fixed.yaml").write_text(
        "name: fixed\narms: [prompt_name, sft]\npersonas: [scrooge]\nbaseline: prompt_name\n"
        "groups: {generate: sample}\nvalues: {generate.top_p: 0.5, method.tune.repeat: 7}\n"
        "arm_values: {sft: {method.tune.lora.rank: 3}}\n"
    )
    monkeypatch.setattr(compose, "CONF", conf)
    found = compose.resolve(["study=fixed"])
    assert [cell.config.generate.temperature for cell in found.cells] == [0.7, 0.7]
    assert [cell.config.generate.top_p for cell in found.cells] == [0.5, 0.5]
    assert found.cells[1].config.method.tune.repeat == 7
    assert found.cells[1].config.method.tune.lora.rank == 3
    assert not found.notes
    other = compose.resolve(["study=fixed", "generate=greedy", "generate.top_p=0.9", "method.tune.repeat=2"])
    assert [cell.config.generate.temperature for cell in other.cells] == [0.0, 0.0]
    assert other.cells[0].config.generate.top_p == 0.9
    assert other.cells[1].config.method.tune.repeat == 2
    (conf / "study" / "fixed.yaml").write_text(
        "name: fixed\narms: [prompt_name]\npersonas: [scrooge]\nbaseline: prompt_name\ngroups: {gen: x}"
    )
    with pytest.raises(UserError, match=r"study\.groups: no group 'gen'"):
        compose.resolve(["study=fixed"])
    told = "name: fixed\narms: [sft]\npersonas: [scrooge]\nbaseline: sft\narm_values: {sfd: {seed: 1}}"
    (conf / "study" / "fixed.yaml").write_text(told)
    with pytest.raises(UserError, match=r"study\.arm_values: no method 'sfd'; did you mean 'sft'"):
        compose.resolve(["study=fixed"])


def test_a_mapping_on_a_section_that_is_off_is_refused():
    with pytest.raises(UserError, match=r"method\.tune\.dpo=.*switched off"):
        compose.resolve(["method=sft", "method.tune.dpo={beta: 0.2}"])
