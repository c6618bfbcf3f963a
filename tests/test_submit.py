"""Sending a study to Slurm, on a made-up Slurm: which arrays, which scripts, and what its answers mean."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from persllm import compose, plan
from persllm.errors import UserError
from persllm.launch import EXIT_BUSY, EXIT_INPUTS, arrays, draft, job, queue, slurm, submission
from persllm.schema import Launch, LaunchKind, Strategy
from persllm.store import StepDir, _process_start, read_json, write_json
from persllm.verbs import retry
from persllm.verbs.retry import smaller

GOLDEN = Path(__file__).parent / "golden" / "slurm.txt"
SLURM = "launch=slurm_cpu"


class FakeSlurm:
    """Commands that note how they were called and answer from files."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        folder.mkdir()
        self.answer("sinfo", "main\nshort")
        self.answer("scontrol", "MaxArraySize            = 1001")
        self.answer("squeue", "")
        self.answer("sacct", "")
        self.answer("scancel", "")
        self.command("sbatch", 'n=$(($(cat "$0.n" 2>/dev/null || echo 100) + 1)); echo $n > "$0.n"; echo $n')
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def command(self, name, body):
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "$0 $*" | sed "s:.*/{name}:{name}:" >> {self.folder}/calls\n{body}\n')
        path.chmod(0o755)

    def answer(self, name, text):
        (self.folder / f"{name}.txt").write_text(text + "\n" if text else "")
        self.command(name, f"cat {self.folder}/{name}.txt")

    def refuse(self, name, text):
        self.command(name, f"echo '{text}' >&2; exit 1")

    def calls(self, name):
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    return FakeSlurm(tmp_path / "slurm", monkeypatch)


def planned(small, *more):
    return plan.build(compose.resolve([*small.words, *more]))


def sent(small, number=1):
    (folder,) = small.outputs.glob(f"studies/small-*/slurm/{number}")
    return folder, read_json(folder / "arrays.json")["arrays"]


def work(folder, entries):
    """Run a submission's jobs in this process, one after the other; return their exit codes."""
    return {
        (entry["name"], index): job.main([str(folder), entry["name"], str(index)])
        for entry in entries
        for index in range(len(entry["elements"]))
    }


def states(small, capsys, *more):
    capsys.readouterr()
    assert small("status", "--json", *more) == 0
    return {row["id"].rsplit("-", 1)[0]: row for row in json.loads(capsys.readouterr().out)["steps"]}


def test_levels_and_arrays(small):
    made = planned(small)
    found = arrays.arrays(made.steps, "studies/x", {}, 1001)
    assert [(a.name, len(a.elements), a.after) for a in found[:4]] == [
        ("prepare-0", 1, []),
        ("infer-0", 1, []),
        ("infer-1", 4, ["prepare-0"]),
        ("train-1", 4, ["prepare-0", "infer-0"]),
    ]
    assert found[-1].elements == [["studies/x"]]
    assert found[-1].after == [a.name for a in found[:-1]]
    assert sorted(id for a in found[:-1] for e in a.elements for id in e) == sorted(s.id for s in made.steps)
    home = {id: number for number, a in enumerate(found) for e in a.elements for id in e}
    names = [a.name for a in found]
    for step in made.steps:
        for needed in step.inputs.values():
            own, other = home[step.id], home[needed.id]
            assert own == other == 0 or names[other] in found[own].after


def test_preparation_chains_in_one_element_for_each_persona(small):
    """Without pairs the personas need nothing of each other."""
    made = planned(small, "method=prompt_profile", "study.name=apart")
    steps = [s for s in made.steps if s.name in arrays.PREPARE]
    assert [[id.split("-")[0] for id in group] for group in arrays.components(steps)] == [
        ["materials/abel", "annotate/abel", "split/abel"],
        ["materials/berta", "annotate/berta", "split/berta"],
    ]


def test_long_arrays_are_cut(small):
    made = planned(small, "method=sft", "seed=range(0,5)", "persona=scrooge", "study.baseline=sft")
    found = arrays.arrays(made.steps, "studies/x", {}, 2)
    assert [(a.name, len(a.elements)) for a in found if a.shape == "train"] == [
        ("train-1-1", 2),
        ("train-1-2", 2),
        ("train-1-3", 1),
    ]
    assert max(len(a.elements) for a in found) == 2
    infer = next(a for a in found if a.name == "infer-2-3")
    assert "train-1-3" in infer.after
    assert "train-1-1" not in infer.after


def test_the_scripts_are_these(small, tmp_path, monkeypatch):
    """Golden: a change of what is sent to a cluster must be seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    launch = Launch(
        kind=LaunchKind.slurm,
        partition="gpu",
        cpu_partition="cpu",
        account="mine",
        constraint="a100|h100",
        memory="64G",
        cpus=8,
        running=4,
        threads=8,
        setup=["module load cuda"],
        prefix="apptainer exec --nv image.sif",
        sbatch=["--qos=long"],
    )
    made = [
        arrays.Array("prepare-0", "prepare", [["split/a"], ["split/b"]]),
        arrays.Array("train-1", "train", [["train/a"]] * 3, ["prepare-0"], ["77"]),
        arrays.Array("infer-2", "infer", [["generate/a"]], ["train-1"]),
    ]
    folder = Path("/data/my outputs/studies/x-1/slurm/1")
    texts = [slurm.script(array, "My study", launch, Strategy(devices=4, nodes=2), folder) for array in made]
    texts.append(slurm.script(made[2], "plain", Launch(), Strategy(), folder))
    told = "\n".join(texts).replace(str(tmp_path), "/home/me/persllm")
    if "GOLDEN" in os.environ:
        GOLDEN.write_text(told)
    assert told == GOLDEN.read_text()


@pytest.mark.parametrize("verb", ["submit", "plan"])
def test_show_script_sends_nothing(small, capsys, verb):
    assert small(verb, SLURM, "--show-script") == 0
    told = capsys.readouterr().out
    assert told.count("#!/bin/bash") == 9
    assert "--gpus-per-node" not in told
    assert not small.outputs.exists()
    assert small(verb, SLURM, "--show-script") == 0
    assert capsys.readouterr().out == told


def test_what_is_submitted_is_what_runs_here(small, cluster, capsys, tmp_path):
    """The jobs' artifacts are those of `persllm run`, byte for byte, and each is made once."""
    assert small("submit", SLURM) == 0
    told = capsys.readouterr().out
    assert "small: 33 steps sent" in told
    assert "where they stand: persllm status study.name=small" in told
    folder, entries = sent(small)
    assert [e["job"] for e in entries] == [str(101 + n) for n in range(9)]
    assert cluster.calls("sbatch")[2] == f"--parsable --dependency=afterany:101 {folder}/infer-1.sh"
    assert set(work(folder, entries).values()) == {0}
    assert set(work(folder, entries).values()) == {0}
    by_jobs = small.bytes()
    (table,) = small.outputs.glob("studies/small-*/table.csv")
    study = table.with_name("study.json").read_bytes()
    small.outputs = tmp_path / "here"
    small.words[-2] = f"outputs={small.outputs}"
    assert small("run") == 0
    assert by_jobs == small.bytes()
    assert study == next(small.outputs.glob("studies/small-*/study.json")).read_bytes()


def test_a_step_whose_input_failed_says_so(small, cluster, capsys, monkeypatch):
    monkeypatch.setenv("FAKE_FAIL", "train/abel-sft")
    assert small("submit", SLURM) == 0
    folder, entries = sent(small)
    codes = work(folder, entries)
    assert sorted(codes.values()) == [0] * (len(codes) - 3) + [1, EXIT_INPUTS, EXIT_INPUTS]
    assert "not run, for it needs train/abel-sft-sft-s0-" in capsys.readouterr().out
    assert not list(small.outputs.glob("generate/abel-sft-*/FAILED.json"))
    found = states(small, capsys)
    assert found["train/abel-sft-sft-s0"]["class"] == "code"
    assert found["generate/abel-sft-s0"]["state"] == "to run"
    (table,) = small.outputs.glob("studies/small-*/table.csv")
    assert table.is_file()


def test_submitting_again_doubles_nothing(small, cluster, capsys):
    assert small("submit", SLURM) == 0
    folder, entries = sent(small)
    pending = [f"{e['job']}_{i}|PENDING||Dependency" for e in entries for i in range(len(e["elements"]))]
    cluster.answer("squeue", "\n".join(pending))
    capsys.readouterr()
    assert small("submit", SLURM) == 0
    assert capsys.readouterr().out == "nothing to submit: 33 steps of small: 33 in the queue\n"
    assert len(cluster.calls("sbatch")) == 9
    found = states(small, capsys)
    assert {row["state"] for row in found.values()} == {"queued"}
    cluster.answer("squeue", "")
    assert set(work(folder, entries).values()) == {0}
    capsys.readouterr()
    assert small("submit", SLURM) == 0
    assert capsys.readouterr().out == "nothing to submit: small is done\n"


def test_a_retry_takes_back_what_waits_for_it(small, cluster, capsys, monkeypatch):
    """What is pending behind a failed step would find its input missing: it is sent again behind the new one."""
    monkeypatch.setenv("FAKE_FAIL", "train/abel-sft")
    assert small("submit", SLURM) == 0
    monkeypatch.delenv("FAKE_FAIL")
    folder, entries = sent(small)
    monkeypatch.setenv("FAKE_FAIL", "train/abel-sft")
    work(folder, entries[:4])
    monkeypatch.delenv("FAKE_FAIL")
    rest = [(e, i) for e in entries[4:] for i in range(len(e["elements"]))]
    cluster.answer("squeue", "\n".join(f"{e['job']}_{i}|PENDING||Dependency" for e, i in rest))
    capsys.readouterr()
    assert small("retry", SLURM) == 0
    told = capsys.readouterr().out
    assert "train abel-sft-sft-s0: an error in the code" in told
    assert "small: 3 steps sent; 16 done, 14 in the queue" in told, told
    _, again = sent(small, 2)
    assert [e["elements"][0][0].rsplit("-", 1)[0] for e in again[:-1]] == [
        "train/abel-sft-sft-s0",
        "generate/abel-sft-s0",
        "evaluate/abel-sft-s0",
    ]
    taken = cluster.calls("scancel")[0].split()
    assert len(taken) == 3
    behind = set(again[-1]["behind"])
    assert behind == {e["job"] for e in entries[4:-1]}


def test_a_retry_halves_the_micro_batch(small, cluster, capsys, monkeypatch):
    assert small("submit", SLURM) == 0
    folder, entries = sent(small)
    work(folder, entries[:3])
    step = next(s for s in planned(small).steps if s.id.startswith("train/abel-sft-sft"))
    oom = {"class": "out_of_memory", "message": "CUDA out of memory", "hint": ""}

    def used():
        return read_json(small.outputs / step.id / "config.json")["local"]["strategy"]["micro_batch"]

    for before, after in ((8, 4), (4, 2)):
        write_json(small.outputs / step.id / "FAILED.json", oom)
        assert used() == before
        capsys.readouterr()
        assert small("retry", SLURM) == 0
        assert f"out of memory; strategy.micro_batch {before} -> {after}" in capsys.readouterr().out
        assert used() == after
    assert small("retry", SLURM, "strategy.micro_batch=8") == 0
    assert "->" not in capsys.readouterr().out
    assert used() == 8
    assert small("retry", "strategy.micro_batch=1") == 0
    assert StepDir(small.outputs / step.id).is_done()


@pytest.mark.parametrize(
    ("before", "share", "after"), [(8, 16, 4), (6, 12, 3), (6, 6, 3), (5, 10, 2), (9, 9, 3), (8, 2, 2), (1, 8, None)]
)
def test_a_smaller_micro_batch_divides_the_share(before, share, after):
    assert smaller(before, share) == after


@pytest.mark.parametrize(
    ("name", "set", "told"),
    [
        ("abel-sft-sft", 64, "strategy.micro_batch {batch} -> {half}"),
        ("abel-persllm-dpo", 64, "strategy.micro_batch {pairs} -> {batch}"),
        ("abel-sft-sft", 1, "not halved: one sequence per rank already"),
        ("abel-persllm-dpo", 1, "not halved: one pair per rank already"),
    ],
)
def test_a_retry_halves_what_was_really_used(small, capsys, name, set, told):
    """More may be set than the batch holds, and DPO counts pairs."""
    made = planned(small, f"strategy.micro_batch={set}")
    step = next(s for s in made.steps if s.id.startswith(f"train/{name}"))
    assert step.directory(small.outputs).freeze(step.meaning(), step.input_record())
    batch = step.config["optim"]["batch_size"]
    _, line = retry._with_less_memory(step, small.outputs)
    assert line == told.format(batch=batch, half=batch // 2, pairs=2 * batch)


def test_a_killed_rank_is_said_in_words(small, capsys):
    (step,) = (s for s in planned(small).steps if s.id.startswith("train/abel-sft-sft"))
    folder = step.directory(small.outputs).path
    folder.mkdir(parents=True)
    write_json(folder / "FAILED.json", {"class": "rank_killed", "message": "rank 1 was killed (SIGKILL)", "hint": ""})
    assert small("retry") == 0
    assert "train abel-sft-sft-s0: a rank was killed\n" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("squeue", "sacct", "state", "told"),
    [
        ("PENDING||Priority", "", "queued", "job 102_0: Priority"),
        ("RUNNING|n7|None", "", "running", "job 102_0 on n7"),
        ("", "CANCELLED by 0|0:15|n1", "cancelled", "job 102_0 by root"),
        ("", "TIMEOUT|0:0|n1", "timeout", "job 102_0 on n1"),
        ("", "OUT_OF_MEMORY|0:125|n1", "out_of_memory", "job 102_0 on n1"),
        ("", "NODE_FAIL|1:0|n1", "node_fail", "job 102_0 on n1"),
        ("", "PREEMPTED|0:15|n1", "preempted", "job 102_0 on n1"),
        ("", "FAILED|1:0|n1", "failed", "job 102_0 ended (exit code 1) and left no reason; its log:"),
        ("", "FAILED|0:9|n1", "failed", "job 102_0 was killed (signal 9) and left no reason"),
        ("", "FAILED|4:0|n1", "to run", "an input was missing"),
        ("", "", "to run", ""),
    ],
)
def test_slurm_tells_how_a_step_ended(small, cluster, capsys, squeue, sacct, state, told):
    assert small("submit", SLURM) == 0
    cluster.answer("squeue", f"102_0|{squeue}" if squeue else "")
    cluster.answer("sacct", f"102_0|{sacct}" if sacct else "")
    assert states(small, capsys)["general/self"]["state"] == state
    assert small("status") == 0
    assert told in " ".join(capsys.readouterr().out.split())
    failed = state not in ("queued", "running", "to run")
    assert small("retry", SLURM) == 0
    out = capsys.readouterr().out
    assert ("sent" in out) == failed
    assert ("nothing failed" in out) != failed


@pytest.mark.parametrize(("text", "expected"), [("00:02:00", 120), ("4:00:30", 14430), ("2-01:00:00", 176400)])
def test_time_limits(text, expected):
    assert slurm.seconds(text) == expected


def test_elements_that_never_began_share_a_line():
    told = queue.read_sacct(
        "7_[2-4,9%3]|CANCELLED by 0|0:0|None assigned\n7_1|COMPLETED|0:0|n1\n8_[0]|CANCELLED|0:0|\n"
    )
    assert sorted(told) == ["7_1", "7_2", "7_3", "7_4", "7_9", "8_0"]
    assert (told["7_9"].state, told["7_9"].told, told["7_9"].where) == ("CANCELLED", "root", "")
    assert told["8_0"].state == "CANCELLED"


def test_a_requeued_step_tells_why(small, cluster, capsys):
    assert small("submit", SLURM) == 0
    (directory,) = small.outputs.glob("general/self-*")
    for _ in range(2):
        StepDir(directory).claim(*(read_json(directory / f"{n}.json") for n in ("config", "inputs"))).interrupt(
            "time limit"
        )
    cluster.answer("squeue", "102_0|PENDING||BeginTime")
    assert states(small, capsys)["general/self"]["state"] == "requeued"
    assert small("status") == 0
    assert "job 102_0: BeginTime, 2 restarts (time limit x2)" in " ".join(capsys.readouterr().out.split())


def test_a_silent_slurm_is_said(small, cluster, capsys):
    assert small("submit", SLURM) == 0
    cluster.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    capsys.readouterr()
    assert small("status") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "note: Slurm does not answer (squeue: Unable to contact slurm controller)" in told
    assert "states are from the step directories" in told
    assert small("submit", SLURM) == 2
    assert "steps might be sent twice" in capsys.readouterr().err


def test_a_slow_slurm_is_not_waited_for(small, cluster, monkeypatch):
    cluster.command("squeue", "echo 'busy, sleeping' >&2; exec sleep 60")
    monkeypatch.setattr(queue, "PATIENCE_SECONDS", 0.3)
    place = submission.Place(Path("/x"), "train-1", "7", 0, "0", "2026-01-01T00:00:00Z")
    assert "did not answer within 0.3 s (busy, sleeping); try again later" in queue.ask_queue([place]).silent


def test_submit_leaves_a_living_owner_alone(small, cluster, capsys):
    (general,) = (s for s in planned(small).steps if s.name == "general")
    folder = general.directory(small.outputs).path
    folder.mkdir(parents=True)
    mine = {"id": "x", "host": os.uname().nodename, "pid": os.getpid(), "started": _process_start(os.getpid())}
    write_json(folder / "lease.json", mine | {"beat": 0})
    assert small("submit", SLURM) == 0
    told = capsys.readouterr().out
    assert "16 steps sent; 1 running" in told
    assert "16 steps left out: no job can wait for what a process outside of Slurm is running" in told
    _, entries = sent(small)
    everything = {id for entry in entries for element in entry["elements"] for id in element}
    assert not {s.id for s in planned(small).steps if general.id in {i.id for i in s.inputs.values()}} & everything
    assert [p.name for p in folder.iterdir()] == [".lock", "lease.json"] or not (folder / "config.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "launch.kind is local, and batch scripts are for Slurm: add launch=slurm"),
        (
            [SLURM, "launch.partition=mian"],
            "launch.partition is 'mian', which this cluster does not have; did you mean",
        ),
        (
            [SLURM, "launch.time=00:02:00"],
            "launch.warning_seconds is 120, which leaves no time to work in launch.time=",
        ),
        ([SLURM, "launch.cpu_partition=x"], "which this cluster does not have (it has main, short)"),
    ],
)
def test_what_cannot_be_sent(small, cluster, capsys, words, told):
    assert small("submit", *words) == 2
    assert told in capsys.readouterr().err
    assert not list(small.outputs.glob("studies/*"))


def test_no_sbatch(small, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert small("submit", SLURM) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: sbatch is not on PATH; submit from a machine of the cluster")
    assert len(told.splitlines()) == 1


def test_sbatch_refuses(small, cluster, capsys):
    cluster.refuse("sbatch", "sbatch: error: Batch job submission failed: Invalid account specified")
    assert small("submit", SLURM) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: sbatch: Batch job submission failed: Invalid account specified (refused: prep")
    assert {e["job"] for e in sent(small)[1]} == {None}
    assert {row["state"] for row in states(small, capsys).values()} == {"to run"}


def test_the_time_limit_after_the_last_requeue(small, cluster, capsys, monkeypatch):
    """The job gives up as a failure of its own class, and the saved state stays."""
    assert small("submit", SLURM, "launch.requeues=1") == 0
    folder, _ = sent(small)
    monkeypatch.setattr(job, "run_element", _interrupting)
    monkeypatch.setattr(job, "stopped_by", lambda: job.signal.SIGUSR1)
    for name, value in (("ARRAY_JOB_ID", "102"), ("ARRAY_TASK_ID", "0"), ("RESTART_COUNT", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert job.main([str(folder), "infer-0", "0"]) == 0
    assert cluster.calls("scontrol")[-1] == "requeue 102_0"
    cluster.refuse("scontrol", "Requested operation is presently disabled")
    assert job.main([str(folder), "infer-0", "0"]) == 1
    assert "could not be queued again: Requested operation" in states(small, capsys)["general/self"]["message"]
    (directory,) = small.outputs.glob("general/self-*")
    (directory / "FAILED.json").unlink()
    cluster.answer("scontrol", "")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "7")
    for reason in ("time limit", "told to end", "killed", "told to end"):
        StepDir(directory).interrupted(reason, "n1")
        assert job.main([str(folder), "infer-0", "0"]) == 0
    StepDir(directory).interrupted("time limit", "n1")
    assert job.main([str(folder), "infer-0", "0"]) == 1
    found = states(small, capsys)["general/self"]
    assert found["class"] == "timeout"
    assert "launch.time=04:00:00 was too short in 2 jobs" in found["message"]
    assert "raise launch.time" in found["hint"]


def test_time_limits_of_an_earlier_submission_do_not_count(small, cluster):
    assert small("submit", SLURM) == 0
    folder, _ = sent(small)
    (directory,) = small.outputs.glob("general/self-*")
    old = {"time": "2020-01-01T00:00:00Z", "reason": "time limit", "host": "n1"}
    (directory / "interruptions.jsonl").write_text((json.dumps(old) + "\n") * 9)
    assert job._time_limits(folder, StepDir(directory)) == 1


def test_a_container_without_scontrol_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert "launch.prefix must bring it" in job._requeue()


def _interrupting(*_):
    raise job.Interrupted


def test_a_job_outwaits_an_owner_that_is_lost(small, cluster, monkeypatch):
    """After its node failed, a job may be back sooner than its first attempt's lease is stale."""
    assert small("submit", SLURM) == 0
    folder, _ = sent(small)
    (directory,) = small.outputs.glob("general/self-*")
    write_json(directory / "lease.json", {"id": "x", "host": "lost", "pid": 1, "beat": time.time() - 13.5})
    assert job.main([str(folder), "infer-0", "0"]) == 0
    assert read_json(directory / "run.json")["restarts"] == 1
    monkeypatch.setattr(job, "BEAT_SECONDS", 0.0)
    (directory / "DONE").unlink()
    write_json(directory / "lease.json", {"id": "x", "host": "elsewhere", "pid": 1, "beat": time.time() + 60})
    assert job.main([str(folder), "infer-0", "0"]) == EXIT_BUSY


def test_a_job_of_older_code_says_so(small, cluster, capsys):
    assert small("submit", SLURM) == 0
    folder, _ = sent(small)
    (file,) = small.outputs.glob("general/self-*/config.json")
    write_json(file, read_json(file) | {"version": 99})
    assert job.main([str(folder), "infer-0", "0"]) == 2
    told = capsys.readouterr().err
    assert "frozen with version 99 of the step's code, which is now" in told
    assert "submit the study again" in told


def test_two_submissions_at_once(small, cluster):
    made = planned(small, SLURM)
    first = draft.draft(made, small.outputs, {}, queue.Answers({}))
    draft.submit(first, small.outputs)
    with pytest.raises(UserError, match="another submission of this study began just now"):
        draft.submit(dataclasses.replace(first), small.outputs)


def test_a_second_submit_waits_for_the_first(small, cluster, capsys):
    """Both would find the queue empty and send everything."""
    with submission.alone(small.outputs):
        assert small("submit", SLURM) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: outputs=")
    assert "another submit is under way there" in told
    assert not (small.folder / "slurm" / "sbatch.n").exists()
    assert small("submit", SLURM) == 0


def test_a_failure_in_a_living_element_is_sent_again(small, cluster, capsys, monkeypatch):
    """A prepare element goes on after one of its steps failed, and never comes back to it."""
    monkeypatch.setenv("FAKE_FAIL", "split/abel")
    assert small("submit", SLURM) == 0
    folder, entries = sent(small)
    work(folder, entries[:1])
    monkeypatch.delenv("FAKE_FAIL")
    rest = [f"{e['job']}_{i}|PENDING||Dependency" for e in entries[1:] for i in range(len(e["elements"]))]
    cluster.answer("squeue", "\n".join(["101_0|RUNNING|n1|None", *rest]))
    (failure,) = small.outputs.glob("split/abel-*/FAILED.json")
    os.utime(failure, (0, time.time() - 60))
    assert states(small, capsys)["split/abel"]["state"] == "running"
    os.utime(failure, (0, time.time() + 60))
    assert states(small, capsys)["split/abel"]["state"] == "failed"
    assert small("retry", SLURM) == 0
    assert "split abel: an error in the code" in capsys.readouterr().out
    _, again = sent(small, 2)
    assert again[0]["behind"] == ["101"]
    assert again[0]["elements"][0][0].startswith("split/abel")
    assert len(cluster.calls("scancel")) == 1


def test_submitting_imports_no_torch(small, cluster):
    code = (
        "import sys; from persllm import cli; assert cli.main(sys.argv[1:]) == 0; "
        "heavy = {'torch', 'transformers', 'pytorch_lightning', 'numpy', 'wandb'} & set(sys.modules); "
        "assert not heavy, heavy"
    )

    for verb in ("submit", "status"):
        subprocess.run([sys.executable, "-c", code, verb, *small.words, SLURM], check=True, timeout=60)
