"""The W&B mirror. Local files are the truth; a run's id is its step's fingerprint, so a replay doubles nothing."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from persllm import records
from persllm.execute import Context
from persllm.records import Generation, Score

os.environ.setdefault("WANDB_SILENT", "true")


def run_settings(ctx: Context) -> dict[str, Any] | None:
    """Return what identifies a step's W&B run, or None where tracking is off."""
    if ctx.track.get("mode", "disabled") == "disabled":
        return None
    folder = ctx.outputs / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "id": ctx.fingerprint[:16],
        "name": ctx.id.split("/")[1].rsplit("-", 1)[0],
        "project": ctx.track["project"],
        "entity": ctx.track["entity"],
        "group": ctx.track["group"],
        "job_type": ctx.id.split("/")[0],
        "dir": str(ctx.outputs),
        "mode": ctx.track["mode"],
        "resume": "allow",
    }


def train_logger(ctx: Context) -> Any:
    """Return Lightning's W&B logger for a train step, or None where tracking is off or W&B fails, which is said."""
    settings = run_settings(ctx)
    if settings is None:
        return None
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    try:
        # Begun here: the logger's own way takes the mode from an environment variable that is read once a process.
        return WandbLogger(experiment=wandb.init(config=ctx.config, **settings))
    except Exception as error:
        # The mirror is a convenience: no training is lost for it.
        ctx.say(f"the W&B mirror failed: {error}")
        return None


def _score_summary(artifacts: Path) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for score in records.read(Score, artifacts / "scores.jsonl"):
        if score.value is not None:
            values.setdefault(score.metric, []).append(score.value)
    return {metric: sum(found) / len(found) for metric, found in values.items()}


def mirror(ctx: Context) -> None:
    """Log a published evaluate step's scores and transcripts, or a compare step's table and contrasts."""
    settings = run_settings(ctx)
    step = ctx.id.split("/")[0]
    if settings is None or step not in ("evaluate", "compare"):
        return
    import wandb

    artifacts = ctx.directory / "artifacts"
    with wandb.init(config=ctx.config, **settings) as run:
        if step == "evaluate":
            run.summary.update(_score_summary(artifacts))
            rows = records.read(Generation, ctx.inputs["generate"] / "generations.jsonl")
            columns = ["item_id", "stage", "analysis", "response", "tokens"]
            data = [[getattr(row, column) for column in columns] for row in rows]
            run.log({"transcripts": wandb.Table(columns=columns, data=data)})  # type: ignore[arg-type]
        if step == "compare":
            for name in ("table", "contrasts"):
                with (artifacts / f"{name}.csv").open(newline="") as file:
                    head, *body = list(csv.reader(file))
                run.log({name: wandb.Table(columns=head, data=body)})  # type: ignore[arg-type]
