"""The fused LoRA layers and norms against PEFT's and transformers' own: same outputs, same gradients."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from persllm.training.fused import LowRankLinear, RmsNorm, fuse


def adapted(dropout=0.0, bias=False):
    """Return a two-layer model with an adapter that is not zero."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=90, num_hidden_layers=2, attention_bias=bias, initializer_range=0.2, **shape)
    lora = LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules="all-linear")
    model = get_peft_model(LlamaForCausalLM(config), lora)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return model.train()


def gradients(model):
    ids = torch.randint(0, 90, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    logits = model(input_ids=ids, attention_mask=mask).logits
    torch.nn.functional.cross_entropy(logits[mask.bool()], ids[mask.bool()]).backward()
    return logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


def test_equals_pefts_forward_and_backward():
    plain = adapted()
    fused = copy.deepcopy(plain)
    assert fuse(fused.get_base_model(), 11) == 14
    (expected, wanted), (logits, found) = gradients(plain), gradients(fused)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert gradient.any(), name
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


def test_gradients_by_finite_differences():
    generator = torch.Generator().manual_seed(0)
    x, weight, down, up = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((2, 3, 5), (4, 5), (2, 5), (4, 2))
    )
    for tensor in (x, down, up):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda *ts: LowRankLinear.apply(ts[0], weight, ts[1], ts[2], 1.5), (x, down, up))


def test_the_norms_gradient_by_finite_differences():
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.linspace(0.5, 2, 5)
    assert torch.autograd.gradcheck(lambda t: RmsNorm.apply(t, weight, 1e-5), x, eps=1e-2, atol=1e-2)


@pytest.mark.parametrize(("dropout", "bias", "count"), [(0.1, False, 0), (0.0, True, 6)])
def test_layers_that_it_cannot_stand_for_are_left_to_peft(dropout, bias, count):
    """With attention biases, only the three feed-forward layers of each block are plain."""
    assert fuse(adapted(dropout, bias).get_base_model(), 11) == count


def test_long_sequences_keep_the_attention_kernel():
    model = adapted().get_base_model()
    kernel = model.config._attn_implementation
    fuse(model, 513)
    assert model.config._attn_implementation == kernel
    fuse(model, 512)
    assert model.config._attn_implementation == "eager"
