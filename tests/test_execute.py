"""Running a study: what fails stays told, what can go on goes on, what is stopped continues."""

import errno
import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from persllm import compose, execute, plan, stop, store
from persllm.errors import UserError
from persllm.store import StepDir


def states(small, capsys):
    capsys.readouterr()
    assert small("status", "--json") == 0
    return {row["id"].rsplit("-", 1)[0]: row for row in json.loads(capsys.readouterr().out)["steps"]}


def test_a_failure_stops_only_what_needs_it(small, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_FAIL", "train/abel-persllm-dpo")
    assert small("run") == 1
    told = capsys.readouterr().out
    assert "FAILED" in told
    assert "failed (code): RuntimeError: made to fail; see log.txt" in told
    assert "2 steps skipped for want of a failed one" in told
    assert "to go on: persllm run study.name=small" in told
    found = states(small, capsys)
    failed = found["train/abel-persllm-dpo-early-s0"]
    assert (failed["state"], failed["class"], failed["message"]) == ("failed", "code", "RuntimeError: made to fail")
    assert "persllm retry" in failed["hint"]
    left = {name for name, row in found.items() if row["state"] == "to run"}
    assert left == {"generate/abel-persllm-s0", "evaluate/abel-persllm-s0", "compare/small", "report/small"}
    (folder,) = small.outputs.glob("train/abel-persllm-dpo-early-*")
    assert "made to fail" in (folder / "log.txt").read_text()
    (study,) = small.outputs.glob("studies/small-*")
    assert (study / "report.html").is_file()


def test_run_tries_a_failed_step_again(small, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_FAIL", "pairs/berta")
    assert small("run") == 1
    monkeypatch.delenv("FAKE_FAIL")
    assert small("run") == 0
    assert {row["state"] for row in states(small, capsys).values()} == {"done"}


def test_retry_runs_the_failed_and_what_waited(small, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("FAKE_FAIL", "train/abel-sft")
    assert small("run") == 1
    monkeypatch.delenv("FAKE_FAIL")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log.txt"))
    assert small("retry") == 0
    ran = [line.split()[0].rsplit("-", 1)[0] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert ran == [
        "train/abel-sft-sft-s0",
        "generate/abel-sft-s0",
        "evaluate/abel-sft-s0",
        "compare/small",
        "report/small",
    ]
    capsys.readouterr()
    assert small("retry") == 0
    assert capsys.readouterr().out == "nothing failed in small\n"


def test_retry_leaves_alone_what_never_ran(small, monkeypatch, tmp_path):
    """A failed step whose other dependents wait for steps that are not done: they stay to run, and nobody waits."""
    monkeypatch.setenv("FAKE_FAIL", "generate/abel-sft")
    assert small("run", "method=sft", "study.baseline=sft") == 1
    monkeypatch.delenv("FAKE_FAIL")
    for done in small.outputs.glob("split/berta-*/DONE"):
        done.unlink()
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log.txt"))
    assert small("retry", "method=sft", "study.baseline=sft") == 0
    ran = [line.split()[0].split("/")[0] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert "evaluate" not in ran
    assert "split" not in ran


def test_lost_artifacts_below_a_finished_cell_are_waited_for_by_nobody(small, monkeypatch, capsys):
    """A cell whose generations were lost and cannot be made again is missing, though its scores are there."""
    assert small("run") == 0
    for done in small.outputs.glob("generate/abel-sft-*/DONE"):
        done.unlink()
    monkeypatch.setenv("FAKE_FAIL", "generate/abel-sft")
    assert small("run") == 1
    (folder,) = {StepDir(p).path for p in small.outputs.glob("generate/abel-sft-*")}
    assert StepDir(folder).state() == "failed"
    capsys.readouterr()
    assert small("report", "--json") == 0
    assert json.loads(capsys.readouterr().out)["missing"] == ["sft abel s0"]


def test_a_finished_study_is_a_quick_no_op(small, capsys):
    assert small("run") == 0
    before = small.bytes()
    capsys.readouterr()
    again = small.spawn("run")
    told, complaint = again.communicate(timeout=20)
    assert (again.returncode, complaint) == (0, "")
    assert told.startswith("33 steps cached\nnothing to run: every step of small is done\n")
    assert small.bytes() == before


def test_a_finished_study_imports_no_torch(small):
    assert small("run") == 0
    code = (
        "import sys; from persllm import cli; assert cli.main(sys.argv[1:]) == 0; "
        "assert not {'torch', 'transformers', 'numpy', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, "run", *small.words], check=True, capture_output=True, timeout=20)


def test_a_larger_command_extends(small, monkeypatch, tmp_path):
    assert small("run", "method=prompt_profile,sft") == 0
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log.txt"))
    assert small("run") == 0
    ran = {line.split("/")[0] for line in (tmp_path / "log.txt").read_text().splitlines()}
    assert ran == {"pairs", "train", "generate", "evaluate", "compare", "report"}
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 14


def wait_for(condition, seconds=30):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_gives_the_lease_back(small, number):
    running = small.spawn("run", FAKE_SLEEP="60")
    wait_for(lambda: list(small.outputs.glob("*/*/lease.json")))
    time.sleep(0.1)
    running.send_signal(number)
    _, complaint = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "stopping after this batch" in complaint
    assert "to go on:\n  persllm run study.name=small" in complaint.lower()
    assert not list(small.outputs.glob("*/*/lease.json"))
    assert not list(small.outputs.glob("*/*/FAILED.json"))
    assert small("run") == 0


def test_a_second_stop_stops_at_once(small):
    running = small.spawn("run", FAKE_SLEEP="60", FAKE_DEAF="1")
    wait_for(lambda: list(small.outputs.glob("*/*/lease.json")))
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    assert running.returncode == 130
    assert not list(small.outputs.glob("*/*/lease.json"))


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        (UserError("x.jsonl:3: no"), "config", "run the same command again"),
        (MemoryError(), "out_of_memory", "strategy.micro_batch"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out_of_memory", "generate.batch_size"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", "free some disk space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full", "free some disk space"),
        (RuntimeError("write failed: Disk quota exceeded"), "disk_full", "free some disk space"),
        (FloatingPointError("loss is nan"), "diverged", "learning_rate"),
        (ValueError("what"), "code", "log.txt"),
    ],
)
def test_failures_are_classed_with_a_hint(error, kind, hint):
    found = execute.classify(error)
    assert found["class"] == kind
    assert hint in found["hint"]


def one(small):
    """Return a claimed step without inputs, and its context."""
    step = plan.build(compose.resolve(small.words)).steps[0]
    directory = step.directory(small.outputs)
    lease = directory.claim(step.meaning(), step.input_record())
    return directory, lease, execute.context_for(step, small.outputs, {"mode": "disabled"})


def test_a_full_disk_keeps_the_reason(small, monkeypatch):
    """The traceback does not fit any more either."""
    directory, lease, context = one(small)
    full = OSError(errno.ENOSPC, "No space left on device")

    def say(text):
        if "Traceback" in text:
            raise full

    def run(_):
        raise full

    monkeypatch.setattr(context, "say", say)
    monkeypatch.setattr(sys.modules["persllm.steps.materials"], "run", run)
    assert not execute.run_step(directory, lease, context)
    assert directory.failure()["class"] == "disk_full"


def test_a_step_that_was_taken_over_ends_unpublished(small, monkeypatch):
    monkeypatch.setattr(store, "BEAT_SECONDS", 0.02)
    directory, lease, context = one(small)
    other = {"id": "other", "host": "elsewhere", "pid": 1, "started": "1", "beat": time.time()}

    def run(ctx):
        store.write_json(directory.path / "lease.json", other)
        wait_for(stop.stop_asked)
        ctx.check_stop()

    monkeypatch.setattr(sys.modules["persllm.steps.materials"], "run", run)
    assert not execute.run_step(directory, lease, context)
    assert directory.owner() == other
    assert directory.failure() is None
    assert directory.interruptions() == []
    assert "interrupted: another process took this step over" in (directory.path / "log.txt").read_text()
    assert not stop.stop_asked()


def test_a_run_tells_its_receipt(small):
    assert small("run") == 0
    (run,) = small.outputs.glob("pairs/abel-*/run.json")
    told = json.loads(run.read_text())
    assert {"host", "python", "versions", "git", "command", "started", "seconds", "restarts"} <= told.keys()
    assert told["restarts"] == 0
    (study,) = small.outputs.glob("studies/small-*/study.json")
    assert len(json.loads(study.read_text())["steps"]) == 35


def test_one_step_from_its_directory(small, monkeypatch):
    """What a scheduler runs: `python -m persllm.execute FOLDER`, with the config that stands there."""
    monkeypatch.setenv("FAKE_FAIL", "pairs/abel")
    assert small("run") == 1
    monkeypatch.delenv("FAKE_FAIL")
    (folder,) = small.outputs.glob("pairs/abel-*")
    assert execute.main([str(folder)]) == 0
    assert StepDir(folder).state() == "done"
    assert execute.main([str(folder)]) == 0
    assert execute.main([str(small.outputs)]) == 2


def test_threads_are_set_before_torch_is_imported(small):
    code = (
        "import os, sys; import fakes; sys.modules.update(fakes.modules()); from persllm import cli; "
        "assert cli.main(sys.argv[1:]) == 0; assert os.environ['OMP_NUM_THREADS'] == '3'"
    )
    words = ["run", *small.words, "method=prompt_profile", "launch.threads=3"]
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, cwd="tests", timeout=60)


@pytest.mark.parametrize(("name", "arms"), [("quickstart", 3), ("ablation", 11)])
def test_workflows_run(small, capsys, name, arms):
    path = Path(__file__).parent.parent / "workflows" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = [w for w in small.words if name == "quickstart" or not w.startswith(("method=", "study."))]
    assert module.main(words) == 0
    (table,) = small.outputs.glob("studies/*/table.csv")
    assert len({line.split(",")[0] for line in table.read_text().splitlines()[1:]}) == arms
    told = capsys.readouterr().out
    assert f"report: {table.parent}/report.html" in told
    if name == "quickstart":
        assert "prompt_profile, abel: materials -> annotate -> split -> generate -> evaluate" in told
