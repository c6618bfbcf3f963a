"""Log-likelihoods of given answers, against a plain forward of each."""

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from persllm import scoring
from persllm.scoring import log_likelihoods, option_log_likelihoods

RNG = random.Random(3)


def ids(length):
    return [RNG.randrange(5, 700) for _ in range(length)]


def plain(model, prefix, option):
    """Return an option's log-probability from one forward over prefix and option."""
    tokens = torch.tensor([prefix + option])
    with torch.no_grad():
        rows = torch.log_softmax(model(input_ids=tokens).logits[0].double(), -1)
    return float(sum(rows[len(prefix) + i - 1, token] for i, token in enumerate(option)))


@pytest.mark.parametrize("lengths", [[1], [7], [3, 3], [1, 12, 5, 30, 2]], ids=str)
@pytest.mark.parametrize("prefix", [1, 40])
def test_equals_a_plain_forward(lab, lengths, prefix):
    model, before = lab.base(), ids(prefix)
    options = [ids(n) for n in lengths]
    expected = [plain(model, before, option) for option in options]
    assert log_likelihoods(model, before, options) == pytest.approx(expected, abs=1e-4)


def test_equals_a_plain_forward_under_an_adapter(lab):
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(lab.base(), config).eval()
    before, options = ids(20), [ids(4), ids(9)]
    expected = [plain(model, before, option) for option in options]
    assert log_likelihoods(model, before, options) == pytest.approx(expected, abs=1e-4)
    assert log_likelihoods(lab.base(), before, options) != pytest.approx(expected, abs=1e-2)


def test_an_option_does_not_depend_on_its_neighbours(lab):
    model, before, options = lab.base(), ids(20), [ids(4), ids(19), ids(2)]
    alone = [log_likelihoods(model, before, [option])[0] for option in options]
    assert log_likelihoods(model, before, options) == pytest.approx(alone, abs=1e-4)
    assert log_likelihoods(model, before, options[::-1]) == pytest.approx(alone[::-1], abs=1e-4)


def cases(shared, rests, options):
    """Return prompts that begin alike, with options of these lengths."""
    begin = ids(shared)
    return [(begin + ids(rest), [ids(n) for n in lengths]) for rest, lengths in zip(rests, options, strict=True)]


MANY = [
    pytest.param(cases(50, [9, 1, 30], [[4, 6], [1], [12, 3, 5]]), id="shared"),
    pytest.param(cases(5, [9, 20], [[4, 6], [7, 7]]), id="too little to share"),
    pytest.param(cases(0, [1, 20], [[4], [7, 7]]), id="nothing shared"),
    pytest.param(cases(40, [0, 3], [[4], [7, 2]]), id="one prompt begins the other"),
    pytest.param(cases(40, [0, 0], [[4], [7, 2]]), id="the same prompt"),
]


def flat(found):
    return [value for values in found for value in values]


@pytest.mark.parametrize("room", [1, 60, 4096])
@pytest.mark.parametrize("asked", MANY)
def test_many_cases_equal_plain_forwards(lab, monkeypatch, asked, room):
    monkeypatch.setitem(scoring.TOKENS, "cpu", room)
    model, done = lab.base(), []
    found = option_log_likelihoods(model, asked, done.append)
    assert [len(values) for values in found] == [len(options) for _, options in asked]
    expected = [plain(model, prompt, option) for prompt, options in asked for option in options]
    assert flat(found) == pytest.approx(expected, abs=1e-4)
    assert sum(done) == len(asked)
    assert len(done) == (len(asked) if room == 1 else len(done))


def test_a_case_does_not_depend_on_the_cases_beside_it(lab):
    model, asked = lab.base(), cases(300, [9, 40, 1, 22], [[4, 30], [12], [1, 2, 3], [50, 9]])
    together = option_log_likelihoods(model, asked)
    for case, values in zip(asked, together, strict=True):
        assert log_likelihoods(model, *case) == pytest.approx(values, abs=1e-4)
    assert flat(option_log_likelihoods(model, asked[::-1])[::-1]) == pytest.approx(flat(together), abs=1e-4)


def test_a_shared_prefix_is_read_once(lab, monkeypatch):
    """The tokens that go through the model: the prefix, and behind it each remainder and option once."""
    asked = cases(300, [9, 40, 2], [[4, 30], [12], [1, 2, 3]])
    model, read = lab.base(), []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].numel()))
    option_log_likelihoods(model, asked)
    assert sorted(read) == [9 + 40 + 2 + 34 + 12 + 6, 300]


def mistral(lab, window):
    """Return a random model whose layers see this many tokens back."""
    torch.manual_seed(4)
    config = MistralConfig(
        vocab_size=len(lab.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        initializer_range=0.2,
    )
    return MistralForCausalLM(config).eval()


@pytest.mark.parametrize(("window", "whole"), [(16, True), (None, False)])
def test_a_sliding_window_is_read_whole(lab, monkeypatch, window, whole):
    asked, model, calls, real = cases(50, [9, 1], [[4, 6], [3]]), mistral(lab, window), [], scoring._whole
    monkeypatch.setattr(scoring, "_whole", lambda *args: calls.append(1) or real(*args))
    expected = [plain(model, prompt, option) for prompt, options in asked for option in options]
    assert flat(option_log_likelihoods(model, asked)) == pytest.approx(expected, abs=1e-4)
    assert len(calls) == (len(asked) if whole else 0)


def test_no_cases_and_no_options(lab):
    assert option_log_likelihoods(lab.base(), []) == []
    assert option_log_likelihoods(lab.base(), [(ids(4), [])]) == [[]]
