"""Log-likelihoods of given answers, against a plain forward of each."""

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model

from persllm.scoring import log_likelihoods

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
