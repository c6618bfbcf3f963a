"""Step train: SFT on a persona's items, or DPO on its pairs from the SFT weights."""

from __future__ import annotations

from persllm.execute import Context
from persllm.launch.ranks import run_ranks


def run(ctx: Context) -> None:
    """Train, then write ``adapter/`` (or ``model/``), ``tokenizer/`` and ``curves.jsonl``, reloaded and compared.

    A strategy of several ranks trains in processes of its own; what comes out is checked in this one.
    """
    if ctx.local["strategy"]["kind"] == "single":
        from persllm.training.fitting import train

        train(ctx)
    else:
        run_ranks(ctx)
    from persllm.language_model import model_source
    from persllm.training.adapters import verify_export

    drift = verify_export(ctx, model_source(ctx.local["model_path"], ctx.outputs))
    ctx.say(f"export reloaded: largest difference {drift:.2e} nats")
