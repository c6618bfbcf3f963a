"""Every strategy on real GPUs with a model of a billion parameters; `make gpu` runs all of it and shows the figures.

The weights are random: memory and speed do not ask what they say.
"""

import importlib.util
import signal
import threading
import time

import pytest
import tiny as tiny_module
import torch
from safetensors.torch import load_file
from test_strategies import adapter, difference
from transformers import AutoConfig, LlamaForCausalLM

from persllm import execute
from persllm.memory import release_freed_memory
from persllm.steps import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install -e '.[zero]'"
    ),
]

SHAPE = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
SHAPE |= {"num_key_value_heads": 8, "max_position_embeddings": 4096}
WORDS = ["model.dtype=bfloat16", "method.tune.repeat=1", "method.tune.general=false", "method.tune.materials=false"]
WORDS += ["method.tune.sft.batch_size=16", "method.tune.sft.validations=2", "method.tune.sft.learning_rate=1e-4"]
WORDS += ["method.tune.dpo.batch_size=8", "method.tune.dpo.validations=2", "method.tune.dpo.learning_rate=1e-4"]
WORDS += ["strategy.micro_batch=4", "pairs.cross_persona_limit=32", "pairs.cross_stage_limit=32"]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A study on a Llama of 1.0 billion parameters."""
    folder = tiny_module.make_model(tmp_path_factory.mktemp("large") / "model")
    config = AutoConfig.from_pretrained(folder)
    for name, value in SHAPE.items():
        setattr(config, name, value)
    config.head_dim = 64
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    assert sum(p.numel() for p in model.parameters()) > 0.95e9
    model.to(torch.bfloat16).save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    return tiny_module.Lab(tmp_path_factory.mktemp("lab"), folder)


def matmul_flops():
    """Return this GPU's measured bf16 matrix products, in FLOP/s."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - began)


@pytest.fixture(scope="module")
def peak():
    return matmul_flops()


def devices():
    return [f"strategy.devices={torch.cuda.device_count()}"]


def strategy(kind):
    return [f"strategy={kind}"] + (devices() if kind != "single" else [])


def told(name, ctx, peak):
    """Print a train step's figures, and return its peak memory over the estimate."""
    cost = ctx.cost
    # Forward 2, backward to activations 2, backward to weights 2 FLOP a parameter and token (arXiv 2001.08361).
    work = 6 if ctx.config["tune"]["adapter"] == "full" else 4
    mfu = work * 1.0e9 * cost["tokens_per_second"] / cost["ranks"] / peak
    ratio = cost["peak_device_bytes"] / cost["memory_estimate_bytes"]
    print(
        f"\n{name:<26} {cost['peak_device_bytes'] / 2**30:6.2f} GiB, estimated {ratio:4.2f} of it;"
        f" {cost['tokens_per_second']:8.0f} tokens/s, MFU {mfu:.2f} with validations and saving"
    )
    return ratio


@pytest.mark.parametrize("objective", [0, 1], ids=["sft", "dpo"])
@pytest.mark.parametrize("weights", ["lora", "full"])
@pytest.mark.parametrize("kind", ["single", "ddp", "zero1", "zero2", "zero3", "zero3_offload"])
def test_trains_saves_resumes_exports_and_reloads(large, tmp_path, kind, weights, objective, peak, monkeypatch):
    release_freed_memory()
    words = [*WORDS, f"method.tune.adapter={weights}", *strategy(kind)]
    # The export is reloaded and its log-probabilities compared by the step itself.
    whole = large.train(tmp_path / "whole", "persllm", *words, objective=objective)
    ratio = told(f"{kind} {weights} {'dpo' if objective else 'sft'}", whole, peak)
    ctx = large.context(large.cell("persllm", *words).train[objective], tmp_path / "stopped")
    became = []

    def work():
        try:
            train.run(ctx)
        except execute.Interrupted as error:
            became.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not (ctx.directory / "metrics.jsonl").exists():
        assert thread.is_alive()
        time.sleep(0.02)
    monkeypatch.setattr("persllm.stop._stopped_by", signal.SIGTERM)
    thread.join()
    monkeypatch.setattr("persllm.stop._stopped_by", None)
    assert became
    train.run(ctx)
    assert "resume after step" in (ctx.directory / "log.txt").read_text()
    # Sums on a GPU come in no fixed order, and Adam's first updates turn noise in small gradients into whole steps.
    assert difference(adapter(whole), adapter(ctx)) < 0.2
    last = [tiny_module.curves(each)[-1]["loss"] for each in (whole, ctx)]
    assert last[1] == pytest.approx(last[0], rel=0.02)
    assert 0.85 <= ratio <= 1.15


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="pip install -e '.[qlora]'")
@pytest.mark.parametrize("kind", ["single", "ddp", "zero2"])
def test_qlora_trains_and_reloads(large, tmp_path, kind, peak):
    ctx = large.train(tmp_path / "qlora", "persllm", *WORDS, "method.tune.adapter=qlora", *strategy(kind))
    assert 0.85 <= told(f"{kind} qlora sft", ctx, peak) <= 1.15
    (file,) = ctx.out.glob("adapter/*.safetensors")
    assert {value.dtype for value in load_file(file).values()} == {torch.float32}


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="pip install -e '.[bench]'")
def test_speed_beside_trl(large, capfd, peak):
    """TRL's trainers run on accelerate; the same weights, batches and losses on both sides."""
    from benchmarks import __main__ as benchmarks

    words = ["model=hf", f"model.path={large.model}", "model.max_length=4096", f"outputs={large.outputs}"]
    assert benchmarks.main(["--only", "sft", "--only", "dpo", *words]) == 0
    with capfd.disabled():
        print("\n" + capfd.readouterr().out + f"\nmeasured matrix products: {peak / 1e12:.0f} TFLOP/s in bfloat16")
