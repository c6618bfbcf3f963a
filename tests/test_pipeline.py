"""`persllm run` from materials to report on the tiny model: once whole, and once killed again and again."""

import csv
import json
import multiprocessing
import os
import random
import signal
import threading

import pytest
from tiny import inspect

from persllm import cli, execute

pytestmark = pytest.mark.pipeline

ARMS = ["prompt_name", "prompt_profile", "prompt_few_shot", "prompt_rag_cutoff", "sft", "persllm"]
TUNED = ["sft", "persllm"]
METRICS = {
    "gold_log_likelihood",
    "who_accuracy",
    "when_accuracy",
    "who_accuracy_pmi",
    "when_accuracy_pmi",
    "character_accuracy",
    "false_premise_acceptance",
    "true_premise_denial",
    "bleu",
    "rouge_l",
    "chrf",
    "as_an_ai_rate",
}


def words(model, outputs, *more):
    """Return the overrides of a small study on the tiny model."""
    return [
        "model=hf",
        f"model.path={model}",
        "model.dtype=float32",
        "model.max_length=6000",
        "method.tune.repeat=1",
        "general.limit=4",
        "general.max_new_tokens=16",
        "pairs.cross_persona_limit=8",
        "pairs.cross_stage_limit=8",
        "generate.max_new_tokens=8",
        "split.test=0.07",
        "compare.resamples=500",
        f"outputs={outputs}",
        *more,
    ]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(study):
    """Return a study's table without what it cost in time and memory; tokens stay."""
    measured = {"train_seconds", "seconds_per_reply", "peak_memory_mb"}
    return [{k: v for k, v in row.items() if k not in measured} for row in rows(study / "table.csv")]


def the_study(outputs):
    (study,) = (outputs / "studies").iterdir()
    return study


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The quickstart study on the tiny model, with its W&B mirror; its overrides and outputs."""
    outputs = tmp_path_factory.mktemp("whole") / "out"
    overrides = words(tiny, outputs, f"method={','.join(ARMS)}", "track=offline")
    assert cli.main(["run", *overrides]) == 0
    return overrides, outputs


def test_the_table_has_every_arm_and_metric(whole):
    study = the_study(whole[1])
    found = rows(study / "table.csv")
    assert {(row["arm"], row["metric"]) for row in found} == {(arm, metric) for arm in ARMS for metric in METRICS}
    for row in found:
        assert float(row["prompt_tokens"]) > 0
        assert float(row["seconds_per_reply"]) > 0
        assert (float(row["train_tokens"]) > 0) == (row["arm"] in TUNED)
        # A random model's analysis never reaches a response: missing and counted, neither zero nor dropped.
        overlap = row["metric"] in ("bleu", "rouge_l", "chrf")
        assert (int(row["missing"]) > 0) == (overlap and row["arm"] == "persllm")
        assert int(row["n"]) + int(row["missing"]) > 0
    contrasts = rows(study / "contrasts.csv")
    assert {row["baseline"] for row in contrasts if row["arm"] == "prompt_name"} == {"prompt_profile"}
    assert {(row["arm"], row["baseline"]) for row in contrasts} >= {
        (t, a) for t in TUNED for a in ARMS if a not in TUNED
    }


def test_the_report_is_one_file_with_every_arm(whole):
    page = (the_study(whole[1]) / "report.html").read_text(encoding="utf-8")
    assert all(arm in page for arm in ARMS)
    assert "<script src" not in page


def test_every_step_kept_its_receipt(whole):
    for done in whole[1].glob("*/*/DONE"):
        run = json.loads((done.parent / "run.json").read_text())
        assert run["restarts"] == 0
        assert run["seconds"] >= 0
        assert not (done.parent / "work").exists()
    adapters = list(whole[1].glob("train/*/artifacts/adapter/adapter_model.safetensors"))
    assert len(adapters) == len(list(whole[1].glob("train/*/DONE"))) >= 6


def test_the_same_command_again_runs_nothing(whole, capsys):
    overrides, outputs = whole
    before = {path: path.stat().st_mtime_ns for path in outputs.glob("*/*/DONE")}
    assert len(before) > 30
    assert cli.main(["run", *overrides]) == 0
    told = capsys.readouterr().out
    assert "nothing to run" in told
    assert {path: path.stat().st_mtime_ns for path in outputs.glob("*/*/DONE")} == before
    assert cli.main(["compare", *overrides]) == 0
    assert "persllm" in capsys.readouterr().out


def test_another_threshold_runs_only_what_depends_on_it(whole, capsys):
    """A decoding change re-runs generate and what follows; nothing is trained anew."""
    overrides, _ = whole
    assert cli.main(["plan", *overrides, "generate.max_new_tokens=9", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    again = {row["step"] for row in steps if row["state"] != "cached"}
    assert again <= {"generate", "evaluate", "compare", "report"}
    assert "generate" in again


# ---- the W&B mirror ----


def test_offline_runs_are_named_by_what_they_mirror(whole):
    _, outputs = whole
    runs = {path.name.rsplit("-", 1)[1]: path for path in (outputs / "wandb").glob("offline-run-*")}
    record = json.loads((the_study(outputs) / "study.json").read_text())
    mirrored = {i: f[:16] for i, f in record["steps"].items() if i.split("/")[0] in ("train", "evaluate", "compare")}
    assert set(runs) == set(mirrored.values())
    chosen = [name for name in mirrored if "compare/" in name or "scrooge-persllm" in name]
    assert {name.split("/")[0] for name in chosen} == {"compare", "evaluate", "train"}
    for name in chosen:
        run = next(row["run"] for row in inspect(runs[mirrored[name]]) if row["type"] == "run")
        assert run["run_id"] == mirrored[name]
        assert run["job_type"] == name.split("/")[0]
        assert run["run_group"] == the_study(outputs).name
        assert run["display_name"] == name.split("/")[1].rsplit("-", 1)[0]
        assert run["project"] == "persllm"


# ---- killed ----

SMALL = ["persona=scrooge", "method=prompt_name,persllm", "study.name=killed", "track=disabled"]


def _killed(overrides, step, delay):
    """Run the command line in this process; SIGKILL it ``delay`` seconds into the first step whose id has ``step``."""
    real = execute.run_step

    def timed(directory, lease, context):
        if step in context.id:
            # Half-hearted imports are not the moment that is meant.
            __import__(f"persllm.steps.{context.id.split('/')[0]}")
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return real(directory, lease, context)

    execute.run_step = timed
    os._exit(cli.main(["run", *overrides]))


def test_killed_at_random_moments_it_ends_the_same(tiny, tmp_path, capsys):
    """SIGKILL in annotate, SFT, DPO, generate and compare; the same command then ends with the same numbers."""
    one = tmp_path / "undisturbed"
    assert cli.main(["run", *words(tiny, one, *SMALL)]) == 0
    took = {done.parent.relative_to(one).as_posix(): json.loads((done.parent / "run.json").read_text())["seconds"]
            for done in one.glob("*/*/DONE")}  # fmt: skip
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_pipeline", "test_resume", "persllm.steps.evaluate"])
    overrides = words(tiny, tmp_path / "killed", *SMALL, "strategy.checkpoint_seconds=0.01")
    rng = random.Random(11)

    def run(step, delay):
        child = context.Process(target=_killed, args=(overrides, step, delay))
        child.start()
        child.join(200)
        return child.exitcode

    hit = 0
    for step in ("annotate/scrooge", "-sft-", "-dpo-", "generate/scrooge-persllm", "compare/"):
        name = min(name for name in took if step in name)
        # In the middle of what takes its time, early enough for a machine that is quicker now than it was; at once in
        # what is over at once. A miss would leave nothing to kill.
        code = run(name, rng.uniform(0.05, 0.3) * took[name] if took[name] > 1 else 0)
        assert code in (-signal.SIGKILL, 0)
        hit += code == -signal.SIGKILL
    assert hit >= 3
    assert run("none of them", 0) == 0
    studies = the_study(tmp_path / "killed"), the_study(one)
    assert studies[0].name == studies[1].name
    assert table(studies[0]) == table(studies[1])
    assert (studies[0] / "contrasts.csv").read_bytes() == (studies[1] / "contrasts.csv").read_bytes()
    weights = [
        {p.parent.parent.parent.name: p.read_bytes() for p in out.glob("train/*/artifacts/adapter/*.safetensors")}
        for out in (one, tmp_path / "killed")
    ]
    assert weights[0] == weights[1]
    restarts = [json.loads(p.read_text())["restarts"] for p in (tmp_path / "killed").glob("*/*/run.json")]
    # One that was killed after its last file was written had nothing left to do.
    assert 1 <= sum(restarts) <= hit
