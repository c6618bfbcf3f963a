"""The W&B mirror, read back by W&B itself. What the runs of a whole study are called is in test_pipeline.py."""

import json

import pytest
import tiny as tiny_module

from persllm import records, tracking
from persllm.records import Score
from persllm.steps import evaluate, train

pytestmark = pytest.mark.pipeline

OFFLINE = {"mode": "offline", "project": "persllm", "entity": None, "group": "tiny-00000000"}
SECRET = "0123456789abcdef0123456789abcdef01234567"
WORDS = ["method.tune.repeat=1", "method.tune.general=false", "method.tune.materials=false"]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """An account's key in the environment, as a user may have it."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)


def tracked(lab, step, tmp_path):
    """Return a step's context with an offline mirror under tmp_path."""
    ctx = lab.context(step, tmp_path / "step")
    ctx.outputs = tmp_path / "out"
    ctx.outputs.mkdir()
    ctx.track = OFFLINE
    return ctx


def the_run(ctx):
    (run,) = (ctx.outputs / "wandb").glob("offline-run-*")
    return run


def logged(run, kind, key):
    """Return what a run's records of one kind say, in order."""
    return [record[kind][key] for record in tiny_module.inspect(run) if record["type"] == kind]


def test_settings_are_taken_from_the_step(lab, tmp_path):
    step = lab.cell("persllm", *WORDS).train[0]
    settings = tracking.run_settings(tracked(lab, step, tmp_path))
    assert settings["id"] == step.fingerprint[:16]
    assert settings["job_type"] == "train"
    assert settings["name"] == "scrooge-persllm-sft-s0"
    assert settings["group"] == "tiny-00000000"
    assert settings["resume"] == "allow"


def test_training_curves_are_whole_and_hold_no_secret(lab, tmp_path):
    ctx = tracked(lab, lab.cell("persllm", *WORDS).train[0], tmp_path)
    train.run(ctx)
    run = the_run(ctx)
    assert run.name.endswith(ctx.fingerprint[:16])
    rows, curves = logged(run, "history", "item"), tiny_module.curves(ctx)
    assert [(row["trainer/global_step"], row["train/loss"]) for row in rows if "train/loss" in row] == [
        (row["step"], row["loss"]) for row in curves
    ]
    told = [(row["trainer/global_step"], round(row["val/loss"], 6)) for row in rows if "val/loss" in row]
    assert told == [(row["step"], row["val_loss"]) for row in curves if row["val_loss"] is not None]
    assert len(rows) == len(curves) + len(told)
    for file in (ctx.outputs / "wandb").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_an_evaluation_is_mirrored_with_its_means_and_transcripts(lab, tmp_path):
    ctx = tracked(lab, lab.cell("prompt_name").evaluate, tmp_path)
    evaluate.run(ctx)
    ctx.out.rename(ctx.directory / "artifacts")
    tracking.mirror(ctx)
    artifacts = ctx.directory / "artifacts"
    values = [s.value for s in records.read(Score, artifacts / "scores.jsonl") if s.metric == "who_accuracy"]
    told = logged(the_run(ctx), "summary", "update")[0]
    assert told["who_accuracy"] == pytest.approx(sum(values) / len(values))
    (table,) = the_run(ctx).rglob("transcripts*.table.json")
    assert len(json.loads(table.read_text())["data"]) == len(records.read(records.Item, artifacts / "items.jsonl"))


def test_disabled_it_makes_no_files(lab, tmp_path):
    ctx = tracked(lab, lab.cell("prompt_name").evaluate, tmp_path)
    ctx.track = {"mode": "disabled"}
    assert tracking.run_settings(ctx) is None
    assert tracking.train_logger(ctx) is None
    tracking.mirror(ctx)
    assert list(ctx.outputs.iterdir()) == []


def test_an_untracked_training_leaves_no_logs(lab, tmp_path):
    """Not Lightning's own either."""
    ctx = lab.train(tmp_path / "step", "persllm", *WORDS)
    assert not list(ctx.directory.rglob("*lightning_logs*"))
    assert not list(ctx.directory.rglob("*wandb*"))
