"""Compare this project's training and generation with TRL and with plain ``generate``, and print ratios."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass

from persllm.errors import UserError

SECTIONS = ("sft", "dpo", "generation", "reading")
TRL = {"sft", "dpo"}

KEYS = """tok/s: tokens that are no padding: read in training, written in generation.
s: the steps, from the loop's start to the last step's end, or all the replies.
ref s: DPO's reference log-probabilities, where they come ahead of the steps.
DPO, TRL default: the reference runs in each step; precomputed: ahead of them.
slots: tokens and padding. MiB: memory above what was held, in the first round.
TRL runs without checkpointing, evaluation, saving and logging, as we do.
Without a GPU, TRL's head computes prompts' logits too; with one it skips them."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    sft_batch: int
    dpo_batch: int
    accumulation: int
    prompts: int
    new_tokens: int


FULL = Size(rounds=4, sft_batch=16, dpo_batch=8, accumulation=2, prompts=16, new_tokens=24)
QUICK = Size(rounds=1, sft_batch=2, dpo_batch=2, accumulation=2, prompts=3, new_tokens=4)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="run this benchmark; may be given again")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs, not to measure")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for persllm run, e.g. persona=ottoline")
    return parser.parse_intermixed_args(argv)


def _prepare() -> None:
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}


def _load() -> float:
    return os.getloadavg()[0]


def _run(args: argparse.Namespace) -> int:
    only = args.only or SECTIONS
    if importlib.util.find_spec("trl") is None and TRL & set(only):
        raise UserError("TRL, which is compared with, is not installed; `make bench` installs it and runs this")
    size = QUICK if args.quick else FULL
    before = _load()
    _prepare()
    warnings.simplefilter("ignore")

    import torch

    from benchmarks import compare, workload
    from benchmarks.measure import clock_name
    from benchmarks.table import render, versions

    work = workload.load(args.overrides, size.prompts)
    # Libraries put their own filters first when they are imported.
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        run = {
            "sft": lambda: compare.sft(work, size.sft_batch, size.accumulation, size.rounds, folder),
            "dpo": lambda: compare.dpo(work, size.dpo_batch, size.accumulation, max(1, size.rounds - 1), folder),
            "generation": lambda: compare.generation(work, size.new_tokens, max(1, size.rounds - 2)),
            "reading": lambda: compare.reading(work, size.new_tokens, max(1, size.rounds - 2)),
        }
        sections = []
        for name in SECTIONS:
            made = run[name]() if name in only else []
            sections += made if isinstance(made, list) else [made]
    lora = work.tune["lora"]
    head = [
        f"{work.persona}'s quickstart data, {work.source.rsplit('/', 1)[-1]}",
        f"{work.model['dtype']} base, LoRA rank {lora['rank']} on all linear layers",
        f"{torch.get_num_threads()} threads, {clock_name()}; load {before:.1f} before, {_load():.1f} after",
        *versions(),
    ]
    print(render(head, sections))
    print(f"\n{KEYS}")
    return 1 if any(guard.holds is False for section in sections for guard in section.guards) else 0


def main(argv: list[str] | None = None) -> int:
    """Run the benchmarks.

    Returns:
        0; 1 where a guard does not hold; 2 for bad input, or where TRL is missing.
    """
    try:
        return _run(_parse(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
