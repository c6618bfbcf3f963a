"""Training on two CPU ranks, in processes of their own, by each strategy: the numbers of one process.

`python tests/test_strategies.py` writes tests/golden/zero.json anew. Do so when DeepSpeed's configuration is MEANT to
change.
"""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny as tiny_module
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from persllm import compose, execute
from persllm.errors import UserError
from persllm.launch import ranks
from persllm.steps import train
from persllm.training.zero import zero_config

ZERO = ["zero1", "zero2", "zero3", "zero3_offload"]
QUICK = ["method.tune.repeat=1", "method.tune.general=false", "method.tune.materials=false", "strategy.micro_batch=2"]
QUICK += ["pairs.cross_persona_limit=16", "pairs.cross_stage_limit=16", "split.dev=0.2"]
QUICK += ["method.tune.sft.batch_size=16", "method.tune.sft.validations=2"]
QUICK += ["method.tune.dpo.batch_size=4", "method.tune.dpo.validations=2"]
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install -e '.[zero]'"
)


GOLDEN = Path(__file__).parent / "golden" / "zero.json"


def configurations():
    """Return every ZeRO configuration of a model of 2,048 dimensions."""
    return {
        f"{kind} {dtype}": zero_config(kind, hidden=2048, dtype=dtype, micro_batch=4, clip=1.0)
        for kind in ZERO
        for dtype in ("bfloat16", "float32")
    }


def test_zero_configurations_are_these():
    assert configurations() == json.loads(GOLDEN.read_text(encoding="utf-8"))


# ---- the same numbers ----

pytestmark = pytest.mark.pipeline


def adapter(ctx):
    """Return a train step's saved weights."""
    found = {}
    for file in [*ctx.out.glob("adapter/*.safetensors"), *ctx.out.glob("model/*.safetensors")]:
        found |= load_file(file)
    return found


def difference(one, other):
    """Return the largest relative difference of any weight, by norm.

    Adam divides a gradient by its own size: where it is next to nothing, rounding decides which way a number moves. Of
    each weight the thousandth that differs most is therefore left out; but for a single number all are within 4e-6.
    """
    assert one.keys() == other.keys()
    return max(_apart(one[k].float().flatten(), other[k].float().flatten()) for k in one)


def _apart(one, other):
    apart = (one - other).abs().sort().values
    return float(apart[: -max(1, len(apart) // 1000)].norm() / one.norm())


@pytest.fixture(scope="module")
def alone(lab, tmp_path_factory):
    """Return a function that trains in this process; each case once."""
    made = {}

    def get(objective, weights):
        if (objective, weights) not in made:
            folder = tmp_path_factory.mktemp("alone") / weights
            words = [*QUICK, f"method.tune.adapter={weights}"]
            made[objective, weights] = lab.train(folder, "persllm", *words, objective=objective)
        return made[objective, weights]

    return get


CASES = [
    (kind, objective, name, weights)
    for kind in ("ddp", "zero1", "zero2", "zero3")
    for objective, name in ((0, "sft"), (1, "dpo"))
    for weights in ("lora", "full")
]
# What is offloaded is the same arithmetic; each part of it once.
CASES += [("zero3_offload", 0, "sft", "full"), ("zero3_offload", 1, "dpo", "lora")]


@pytest.mark.parametrize(
    ("kind", "objective", "name", "weights"),
    [pytest.param(*case, marks=[needs_deepspeed] * case[0].startswith("zero")) for case in CASES],
)
def test_two_ranks_give_the_numbers_of_one_process(lab, tmp_path, alone, kind, objective, name, weights):
    one = alone(objective, weights)
    words = [*QUICK, f"method.tune.adapter={weights}", f"strategy={kind}"]
    two = lab.train(tmp_path / name, "persllm", *words, objective=objective)
    assert difference(adapter(one), adapter(two)) < 1e-4
    rows = list(zip(tiny_module.curves(one), tiny_module.curves(two), strict=True))
    assert len(rows) > 2
    for ours, theirs in rows:
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
        assert theirs["val_loss"] == (ours["val_loss"] and pytest.approx(ours["val_loss"], rel=1e-4))
        for exact in ("step", "tokens", "learning_rate"):
            assert theirs[exact] == ours[exact]
    assert two.cost["ranks"] == 2
    assert two.cost["train_tokens"] == one.cost["train_tokens"]
    assert two.cost["trainable_parameters"] == one.cost["trainable_parameters"]


@needs_deepspeed
@pytest.mark.parametrize("kind", ["zero2", "zero3"])
def test_bfloat16_trains_in_shards_too(lab, tmp_path, kind):
    words = [*QUICK, "model.dtype=bfloat16", "method.tune.lora.dropout=0.1", f"strategy={kind}"]
    ctx = lab.train(tmp_path / "sft", "persllm", *words)
    losses = [row["loss"] for row in tiny_module.curves(ctx)]
    assert losses[-1] < losses[0] - 0.1
    # The optimizer's own copy is what is kept, not the rounded weights.
    assert {value.dtype for value in adapter(ctx).values()} == {torch.float32}
    assert any(not torch.equal(v, v.bfloat16().float()) for v in adapter(ctx).values())


@needs_deepspeed
def test_three_ranks_that_divide_no_weight(lab, tmp_path, alone):
    """ZeRO 3 pads what its ranks do not divide; a saved state fits whoever reads it all the same."""
    words = ["method.tune.sft.batch_size=18", "strategy.micro_batch=3", "method.tune.lora.rank=5"]
    words += ["method.tune.dpo.batch_size=6"]
    words = [*QUICK, *words, "strategy.checkpoint_seconds=0.000001"]
    one = lab.train(tmp_path / "one", "persllm", *words)
    three = lab.train(tmp_path / "three", "persllm", *words, "strategy=zero3", "strategy.devices=3")
    assert difference(adapter(one), adapter(three)) < 1e-4
    again = lab.context(
        lab.cell("persllm", *words, "strategy=zero3", "strategy.devices=3").train[0], tmp_path / "again"
    )
    (state,) = one.work.glob("state-*")
    for folder in (state, *one.work.glob("best-*")):
        shutil.copytree(folder, again.work / folder.name)
    train.run(again)
    assert "saved on ranks: 1" in (again.directory / "log.txt").read_text()
    assert difference(adapter(one), adapter(again)) < 1e-4


# ---- a rank dies, and ranks change ----


def start(ctx, every=1e-6):
    """Run a train step in a thread; return the thread and what becomes of it."""
    ctx.local["strategy"] = ctx.local["strategy"] | {"checkpoint_seconds": every}
    became = {}

    def work():
        try:
            train.run(ctx)
        except BaseException as error:
            became["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    return thread, became


def rank_pids(ctx):
    """Return the pids of a step's ranks, in the order of ranks."""
    order = str(ranks.folder(ctx.work) / "order.json")
    told = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in told.splitlines() if "persllm.training.rank" in line and order in line]


def wait_for_state(ctx, thread):
    """Wait until a state has been saved in the middle of training."""
    while not list(ctx.work.glob("state-*[0-9]")):
        assert thread.is_alive()
        time.sleep(0.02)


LONG = [*QUICK, "method.tune.sft.epochs=8", "method.tune.sft.validations=4"]


@pytest.fixture(scope="module", params=["ddp", pytest.param("zero3", marks=needs_deepspeed)])
def undisturbed(request, lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "sft"
    return request.param, lab.train(folder, "persllm", *LONG, f"strategy={request.param}")


def test_a_killed_rank_fails_the_step_at_once_and_the_retry_goes_on(lab, tmp_path, undisturbed):
    kind, whole = undisturbed
    step = lab.cell("persllm", *LONG, f"strategy={kind}").train[0]
    ctx = lab.context(step, tmp_path / "killed")
    thread, became = start(ctx)
    wait_for_state(ctx, thread)
    pids = rank_pids(ctx)
    assert len(pids) == 2
    os.kill(pids[1], signal.SIGKILL)
    killed = time.monotonic()
    thread.join(60)
    assert time.monotonic() - killed < 30
    assert rank_pids(ctx) == []
    failure = execute.classify(became["error"])
    assert failure["class"] == "rank_killed"
    assert failure["message"] == "rank 1 was killed (SIGKILL)"
    assert "retry" in failure["hint"]
    train.run(ctx)
    assert "resume after step" in (ctx.directory / "log.txt").read_text()
    assert adapter(ctx).keys() == adapter(whole).keys()
    assert all(torch.equal(value, adapter(ctx)[name]) for name, value in adapter(whole).items())
    assert tiny_module.curves(ctx) == tiny_module.curves(whole)


def test_a_stop_reaches_all_ranks_and_another_number_of_ranks_goes_on(lab, tmp_path, undisturbed, monkeypatch):
    kind, whole = undisturbed
    step = lab.cell("persllm", *LONG, f"strategy={kind}").train[0]
    ctx = lab.context(step, tmp_path / "stopped")
    thread, became = start(ctx, every=1e6)
    while not (ctx.directory / "metrics.jsonl").exists():
        time.sleep(0.02)
    monkeypatch.setattr("persllm.stop._stopped_by", signal.SIGTERM)
    thread.join(60)
    monkeypatch.setattr("persllm.stop._stopped_by", None)
    assert isinstance(became["error"], execute.Interrupted)
    (state,) = ctx.work.glob("state-*")
    assert json.loads((state / "index.json").read_text())["record"]["ranks"] == 2
    single = lab.cell("persllm", *LONG).train[0]
    assert single.fingerprint == step.fingerprint
    ctx.local = single.local
    train.run(ctx)
    assert "saved on ranks: 2" in (ctx.directory / "log.txt").read_text()
    assert difference(adapter(whole), adapter(ctx)) < 1e-4


def test_ranks_whose_parent_dies_end_too(lab, tmp_path):
    ctx = lab.context(lab.cell("persllm", *LONG, "strategy=ddp").train[0], tmp_path / "orphans")
    ranks.give(ctx)
    order = ranks.folder(ctx.work) / "order.json"
    code = "import json, os, sys, time; from persllm.launch import ranks; from persllm.steps import train\n"
    code += f"train.run(ranks.take(ranks.Path({str(order)!r})))"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while len(rank_pids(ctx)) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while rank_pids(ctx):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@needs_deepspeed
def test_zero3_holds_the_whole_model_on_no_rank_while_it_loads(lab, tmp_path):
    shape = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12, "num_attention_heads": 16}
    config = LlamaConfig(vocab_size=800, num_key_value_heads=4, tie_word_embeddings=True, **shape)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "large", max_shard_size="200MB")
    command = [sys.executable, str(Path(__file__).with_name("zero_load.py")), str(lab.model), str(tmp_path / "large")]
    with socket.socket() as free:
        free.bind(("", 0))
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    # What is freed goes back at once, so that what is seen is what is held.
    common |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    logs = [tmp_path / f"rank-{rank}.log" for rank in range(2)]
    started = []
    for rank, log in enumerate(logs):
        env = os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        with log.open("w") as file:
            started.append(subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT))
    assert [process.wait(200) for process in started] == [0, 0], logs[0].read_text()
    for log in logs:
        told = json.loads(next(line for line in log.read_text().splitlines() if line.startswith("{")))
        assert told["own"] == pytest.approx(told["whole"] / 2, rel=0.01)
        # Its own shard, and a weight or two that are being dealt out.
        assert told["most"] < told["own"] + 4 * told["largest"] < 0.6 * told["whole"]


# ---- told in one sentence ----


def test_a_rank_that_diverges_is_told_with_its_reason(lab, tmp_path):
    words = [*QUICK, "strategy=ddp", "method.tune.adapter=full", "method.tune.sft.learning_rate=1e30"]
    ctx = lab.context(lab.cell("persllm", *words).train[0], tmp_path / "diverged")
    with pytest.raises(execute.StepFailure) as caught:
        train.run(ctx)
    failure = execute.classify(caught.value)
    assert failure["class"] == "diverged"
    assert "loss is nan" in failure["message"]
    assert "learning_rate" in failure["hint"]


def test_srun_tells_who_was_killed(tmp_path):
    ranks.folder(tmp_path).mkdir()
    told = ["srun: error: n2: task 1: Killed", "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED"]
    (ranks.folder(tmp_path) / "srun.log").write_text("\n".join([*told, "srun: error: n1: task 0: Killed"]))
    failure = ranks._reason(tmp_path, [137])
    assert (failure["class"], failure["message"]) == ("rank_killed", "rank 1 on node n2 was killed (Killed)")


def test_nodes_outside_of_slurm_are_refused(lab, tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    monkeypatch.delenv("SLURM_NNODES", raising=False)
    ctx = lab.context(lab.cell("persllm", *QUICK, "strategy=ddp").train[0], tmp_path / "nodes")
    ctx.local["strategy"] = ctx.local["strategy"] | {"nodes": 2}
    with pytest.raises(UserError, match=r"strategy.nodes is 2 but this is no Slurm job; .*persllm submit"):
        train.run(ctx)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    with pytest.raises(UserError, match="this Slurm job has 3"):
        train.run(ctx)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["strategy.devices=2"], "strategy.kind is single but devices x nodes is 2; expected 1 x 1, or strategy=ddp"),
        (["strategy=ddp", "strategy.nodes=2"], "more than one node needs launch=slurm"),
        (["strategy=ddp", "strategy.devices=3"], "expected a multiple of 3, the ranks"),
        pytest.param(
            ["strategy=zero3", "method.tune.temporal_label=token"],
            "temporal_label is token, whose rows zero3 cannot add; use text, or zero2",
            marks=needs_deepspeed,
        ),
        (["strategy=ddp", "strategy.micro_batch=3"], "expected a multiple of 6, as strategy.micro_batch is 3"),
        (["strategy=ddp", "strategy.devices=0"], "strategy.devices is 0; expected more than 0"),
    ],
)
def test_a_geometry_that_does_not_fit_is_refused_before_anything_runs(lab, words, told):
    with pytest.raises(UserError, match=told):
        compose.resolve([*lab.words, "method=persllm", *words])


def test_a_missing_package_is_told_before_anything_runs(lab, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for words, package in ((["strategy=zero2"], "deepspeed"), (["method.tune.adapter=qlora"], "bitsandbytes")):
        with pytest.raises(UserError, match=f"{package} is not installed; in the checkout: pip install"):
            compose.resolve([*lab.words, "method=sft", *words])


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(configurations(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
