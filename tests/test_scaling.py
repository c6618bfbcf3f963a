"""What ZeRO sends and holds: the formulas against DeepSpeed itself, on two and on four ranks."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from persllm.training import scaling
from persllm.training.zero import zero_config

WORKER = Path(__file__).parent / "zero_ranks.py"
HIDDEN = 96
"""As in zero_ranks.py."""

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install -e '.[zero]'"
)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module", params=[2, 4])
def measured(request, tmp_path_factory):
    """Run all cases on that many ranks, once; return what rank 0 tells."""
    world, port, folder = request.param, free_port(), tmp_path_factory.mktemp("ranks")
    common = os.environ | {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    ranks = []
    for rank in range(world):
        # Files: a rank whose pipe nobody empties would stand still, and with it the others.
        with (folder / f"{rank}.out").open("w") as out, (folder / f"{rank}.err").open("w") as err:
            env = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen([sys.executable, str(WORKER)], env=env, stdout=out, stderr=err))
    try:
        codes = [rank.wait(timeout=400) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert not any(codes), [(folder / f"{rank}.err").read_text()[-1000:] for rank in range(world)]
    return json.loads((folder / "0.out").read_text().strip().splitlines()[-1])


def run_of(case):
    config = zero_config(case["kind"], HIDDEN, case["dtype"], 1, 1.0)["zero_optimization"]
    size = 2 if case["dtype"] == "bfloat16" else 4
    return scaling.of(
        case["kind"], case["ranks"], case["sizes"], case["trained_sizes"], size, case["accumulation"], config
    )


@needs_deepspeed
@pytest.mark.pipeline
def test_formulas_agree_with_deepspeed(measured):
    """Within 2 % for bytes sent, and 5 % for bytes held: after each backward pass, and when the update is done."""
    assert {case["kind"] for case in measured} == set(scaling.STAGES)
    for case in measured:
        run = run_of(case)
        where = {key: case[key] for key in ("kind", "lora", "accumulation", "dtype", "ranks")}
        expected = scaling.sent(run)
        # The gradient's norm and a few flags go around, too.
        small = {name: size for name, size in case["bytes"].items() if name not in expected}
        assert sum(small.values()) < 1000, (where, small)
        for name, size in expected.items():
            assert case["bytes"][name] == pytest.approx(size, rel=0.02), (where, name)
        told = case["held_after_backward"]
        for place, size in enumerate(told):
            parts = scaling.held(run, between=place < len(told) - 1)
            assert size == pytest.approx(sum(parts.values()), rel=0.05), (where, place, parts)
        parts = scaling.held(run)
        kept = sum(parts.values()) - (parts["gradients"] if run.stage < 3 else 0)
        assert case["held_after_step"] == pytest.approx(kept, rel=0.05), (where, parts)


def test_the_papers_own_figures():
    """arXiv 1910.02054, figure 1: 7.5B parameters on 64 ranks in stage 3 hold 16 bytes x 7.5B / 64 = 1.9 GB."""
    run = scaling.Zero("zero3", 64, 7_500_000_000, 7_500_000_000, 2)
    assert sum(scaling.held(run).values()) / 1e9 == pytest.approx(1.9, abs=0.05)
    ten = scaling.Zero("zero1", 64, 7_500_000_000, 7_500_000_000, 2, accumulation=2)
    assert sum(scaling.held(ten, between=True).values()) / 1e9 == pytest.approx(31.4, abs=0.1)


def test_more_ranks_never_hold_more():
    for kind in scaling.STAGES:
        sizes = [sum(scaling.held(scaling.Zero(kind, n, 10**9, 10**7, 2)).values()) for n in (2, 8, 64, 1024)]
        assert sizes == sorted(sizes, reverse=True)


def test_lora_under_zero_1_sends_next_to_nothing():
    full = scaling.Zero("zero1", 8, 8 * 10**9, 8 * 10**9, 2)
    lora = scaling.Zero("zero1", 8, 8 * 10**9, 4 * 10**7, 2)
    assert scaling.wire(lora) / scaling.wire(full) == pytest.approx(0.005)
    computing, waiting = scaling.seconds(lora, 8192, scaling.Cluster())
    assert waiting / computing < 0.01
