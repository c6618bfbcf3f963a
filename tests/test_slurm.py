"""On a real Slurm: a study sent and left alone, hurt in three ways, told apart, and finished."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes
import pytest


def silent():
    """Return why there is no Slurm to test on, or None."""
    if shutil.which("sbatch") is None:
        return "sbatch is not on PATH"
    answer = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, timeout=30)
    return None if answer.returncode == 0 and answer.stdout else f"sinfo does not answer: {answer.stderr.strip()}"


WHY = silent()
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(WHY is not None, reason=str(WHY))]

LAUNCH = (
    "launch=slurm_cpu",
    "launch.cpus=1",
    "launch.memory=100M",
    "launch.time=00:02:00",
    # Slurm warns up to a minute earlier still.
    "launch.warning_seconds=90",
    f"launch.prefix='{sys.executable} {fakes.__file__} exec'",
)
ON_THE_WAY = ("queued", "requeued", "running")


def standing(small, *words):
    told, complaint = small.spawn("status", "--json", *words).communicate(timeout=60)
    assert not complaint
    rows = {row["id"].rsplit("-", 1)[0]: row for row in json.loads(told)["steps"]}
    return rows, {name: row["state"] for name, row in rows.items()}


def until(small, condition, *words, seconds=200):
    """Wait for a condition on the states; return all of them that were seen, by step."""
    seen, deadline = {}, time.time() + seconds
    while True:
        rows, states = standing(small, *words)
        for name, state in states.items():
            seen.setdefault(name, set()).add(state)
        if condition(rows, states):
            return rows, seen
        assert time.time() < deadline, states
        time.sleep(1)


def ended(_, states):
    return not set(states.values()) & set(ON_THE_WAY)


def send(small, verb, *words, **env):
    sending = small.spawn(verb, *LAUNCH, *words, **env)
    told, complaint = sending.communicate(timeout=100)
    assert (sending.returncode, complaint) == (0, ""), complaint
    return told


def test_a_study_hurt_in_three_ways(small, tmp_path):
    """One step cancelled, one cut short by its time limit, one failing; the rest goes on, and a retry finishes."""
    hurt = {"FAKE_SLEEP": "40", "FAKE_SLOW": "sft-sft", "FAKE_FAIL": "train/abel-persllm-sft"}
    words = [sys.executable, fakes.__file__, "submit", *small.words, *LAUNCH]
    login = subprocess.Popen(words, env=os.environ | hurt, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert "33 steps sent" in login.communicate(timeout=100)[0]
    # The user logs out: whatever was left of the login would go with it.
    with pytest.raises(ProcessLookupError):
        os.killpg(login.pid, signal.SIGKILL)

    slow = ("train/abel-sft-sft-s0", "train/berta-sft-sft-s0")
    rows, _ = until(small, lambda rows, _: all("lease" in rows[name] for name in slow))
    subprocess.run(["scancel", rows[slow[1]]["job"]], check=True)
    rows, seen = until(small, ended)
    states = {name: row["state"] for name, row in rows.items()}
    assert states[slow[1]] == "cancelled"
    assert {"requeued", "done"} <= seen[slow[0]]
    assert states["train/abel-persllm-sft-s0"] == "failed"
    assert rows["train/abel-persllm-sft-s0"]["message"] == "RuntimeError: made to fail"
    assert {name for name, state in states.items() if state == "to run"} >= {
        "generate/berta-sft-s0",
        "train/abel-persllm-dpo-early-s0",
    }
    assert states["evaluate/berta-persllm-s0"] == "done"
    (run,) = small.outputs.glob("train/abel-sft-sft-*/run.json")
    assert json.loads(run.read_text())["restarts"] >= 1
    assert list(small.outputs.glob("studies/small-*/table.csv"))

    told = send(small, "retry")
    assert "train berta-sft-sft-s0: cancelled" in told
    assert "train abel-persllm-sft-s0: an error in the code" in told
    rows, _ = until(small, ended)
    assert {row["state"] for row in rows.values()} == {"done"}
    assert send(small, "submit") == "nothing to submit: small is done\n"
    _is_as_here(small, tmp_path)


def _is_as_here(small, tmp_path):
    """Check that the artifacts are those of a run without Slurm; of compare and report, the last."""
    last = {name: row["id"] for name, row in standing(small)[0].items()}
    sent = {path: data for path, data in small.bytes().items() if path.split("/artifacts/")[0] in last.values()}
    study = next(small.outputs.glob("studies/small-*/study.json")).read_bytes()
    small.outputs = tmp_path / "here"
    small.words[-2] = f"outputs={small.outputs}"
    here = small.spawn("run")
    here.communicate(timeout=100)
    assert here.returncode == 0
    assert sent == small.bytes()
    assert study == next(small.outputs.glob("studies/small-*/study.json")).read_bytes()


def sent(small):
    (file,) = small.outputs.glob("studies/small-*/slurm/1/arrays.json")
    return json.loads(file.read_text())["arrays"]


def test_five_hundred_cells(small):
    """Sent as arrays within the cluster's limit, told in one go, and cancelled together."""
    small.words[1:3] = [f"persona={small.folder}/packs/abel", "method=sft", "seed=range(0,500)"]
    try:
        assert "1511 steps sent" in send(small, "submit", "launch.running=2")
        arrays = sent(small)
        assert sorted(len(array["elements"]) for array in arrays)[-3:] == [500, 500, 501]
        _, states = standing(small)
        assert sum(state in ON_THE_WAY for state in states.values()) > 1400
    finally:
        subprocess.run(["scancel", *(array["job"] for array in sent(small) if array["job"])], check=True)
    _, seen = until(small, ended)
    assert "cancelled" in seen["train/abel-sft-sft-s499"]


@pytest.mark.pipeline
def test_real_steps_end_as_here(lab, tmp_path):
    """Weights, scores and contrasts are those of a run without Slurm; only recorded seconds may differ."""
    made = {}
    shared = [word for word in lab.words if not word.startswith(("persona=", "outputs="))]
    words = [*shared, "persona=scrooge", "method=prompt_profile,sft", "launch.threads=1"]
    verbs = {"here": ["run"], "there": ["submit", "launch=slurm_cpu", "launch.cpus=1", "launch.memory=2G"]}
    for place, verb in verbs.items():
        command = [sys.executable, "-m", "persllm.cli", *verb, *words, f"outputs={tmp_path / place}"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        deadline = time.time() + 300
        while not (found := list((tmp_path / place).glob("studies/*/study.json"))):
            assert time.time() < deadline
            time.sleep(1)
        timed = ("generations.jsonl", "table.csv", "table.md", "report.md", "report.html")
        files = [file for file in (tmp_path / place).glob("*/*/artifacts/**/*") if file.is_file()]
        told = {file.relative_to(tmp_path / place): file.read_bytes() for file in files if file.name not in timed}
        made[place] = told | {Path("study"): found[0].read_bytes()}
    assert len(made["here"]) > 20
    assert any(path.name == "adapter_model.safetensors" for path in made["here"])
    assert made["here"].keys() == made["there"].keys()
    assert [str(path) for path, data in made["here"].items() if data != made["there"][path]] == []
