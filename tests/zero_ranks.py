"""One rank that trains a small model by DeepSpeed alone, and tells what it sent and held; see tests/test_scaling.py.

RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and DS_ACCELERATOR come from the environment. Prints one line of JSON.
"""

import collections
import gc
import itertools
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch import distributed, nn

HIDDEN, WIDE, LAYERS, RANK = 96, 384, 10, 8
CALLS = collections.Counter()
BYTES = collections.Counter()
KINDS = {
    "all_reduce": "all_reduce",
    "reduce": "reduce",
    "broadcast": "broadcast",
    "all_gather": "all_gather",
    "all_gather_into_tensor": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "reduce_scatter_tensor": "reduce_scatter",
    "all_to_all_single": "all_to_all",
}
"""torch.distributed's functions, by what they do."""


def size(value):
    """Return the bytes of a tensor or of a list of them."""
    return value.nbytes if isinstance(value, torch.Tensor) else sum(map(size, value))


def count(name):
    """Count a collective's bytes: of its input and its output, the larger."""
    real = getattr(distributed, name)

    def counted(*args, **kwargs):
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor | list)]
        CALLS[KINDS[name]] += 1
        BYTES[KINDS[name]] += max(map(size, tensors))
        return real(*args, **kwargs)

    setattr(distributed, name, counted)


for _name in KINDS:
    count(_name)

import deepspeed  # noqa: E402  (takes torch's functions, which must be counted by now)

from persllm.training.zero import zero_config  # noqa: E402


class Block(nn.Module):
    """A norm's weight, a wide matrix and a narrow one; with LoRA beside each, which alone is trained then."""

    def __init__(self, lora):
        super().__init__()
        self.norm = nn.RMSNorm(HIDDEN)
        self.up, self.down = nn.Linear(HIDDEN, WIDE, bias=False), nn.Linear(WIDE, HIDDEN, bias=False)
        self.lora = lora
        if lora:
            self.requires_grad_(False)
            self.up_a, self.up_b = nn.Linear(HIDDEN, RANK, bias=False), nn.Linear(RANK, WIDE, bias=False)
            self.down_a, self.down_b = nn.Linear(WIDE, RANK, bias=False), nn.Linear(RANK, HIDDEN, bias=False)

    def forward(self, x):
        y = self.norm(x)
        if not self.lora:
            return x + self.down(torch.relu(self.up(y)))
        y = torch.relu(self.up(y) + self.up_b(self.up_a(y)))
        return x + self.down(y) + self.down_b(self.down_a(y))


class Model(nn.Module):
    """Blocks, and their output's mean square as the loss."""

    def __init__(self, lora):
        super().__init__()
        self.blocks = nn.ModuleList(Block(lora) for _ in range(LAYERS))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.float().square().mean()


def held():
    """Return the bytes of every tensor of this process, each storage once."""
    gc.collect()
    found = {}
    for one in gc.get_objects():
        try:
            if isinstance(one, torch.Tensor) and one.device.type == "cpu":
                found[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
                if one.grad is not None:
                    found[one.grad.untyped_storage().data_ptr()] = one.grad.untyped_storage().nbytes()
        except (ReferenceError, RuntimeError, NotImplementedError):
            # A weak reference whose object is gone, or a tensor without storage: neither holds memory.
            continue
    return sum(found.values())


def case(kind, lora, accumulation, dtype):
    """Train three updates; return what the last one sent, and what was held after each backward pass and at its end."""
    before = held()
    torch.manual_seed(0)
    config = zero_config(kind, HIDDEN, dtype, 1, 1.0)
    config |= {
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": accumulation * distributed.get_world_size(),
    }
    model = Model(lora)
    trained = [p for p in model.parameters() if p.requires_grad]
    sizes = [p.numel() for p in model.parameters()]
    trained_sizes = [p.numel() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    del model, trained, optimizer
    between: list[int] = []
    for _ in range(3):
        CALLS.clear()
        BYTES.clear()
        between.clear()
        for _ in range(accumulation):
            x = torch.ones(1, 2, HIDDEN, dtype=torch.bfloat16 if dtype == "bfloat16" else torch.float32)
            loss = engine(x)
            engine.backward(loss)
            del loss
            between.append(held() - before)
            engine.step()
    after = held() - before
    told = {
        "kind": kind,
        "lora": lora,
        "accumulation": accumulation,
        "dtype": dtype,
        "ranks": distributed.get_world_size(),
        "bytes": dict(BYTES),
        "calls": dict(CALLS),
        "held_after_backward": between,
        "held_after_step": after,
        "sizes": sizes,
        "trained_sizes": trained_sizes,
    }
    engine.destroy()
    return told


def main():
    torch.set_num_threads(1)
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    gc.collect()
    # What was made so far is no tensor of ours: hundreds of thousands of objects that need not be searched.
    gc.freeze()
    cases = [*itertools.product(("zero1", "zero2", "zero3"), (False, True), (1, 2), ("bfloat16",))]
    cases += [("zero3_offload", False, 2, "bfloat16"), ("zero1", False, 1, "float32"), ("zero3", True, 2, "float32")]
    told = [case(*one) for one in cases]
    if int(os.environ["RANK"]) == 0:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
