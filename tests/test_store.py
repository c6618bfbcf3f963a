"""The step directory: one owner at a time, published whole or not at all, whatever dies when."""

import collections
import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from persllm import store
from persllm.store import LeaseLost, StepDir, lease_alive, read_json, write_json


@pytest.fixture
def step(tmp_path):
    return StepDir(tmp_path / "outputs" / "pairs" / "abel-12345678")


def make(step, text="made\n"):
    """Return a folder of files as a step leaves it."""
    made = step.work / "artifacts"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_text(text)
    (made / "sub" / "b.txt").write_text("more\n")
    return made


def publish(step, text="made\n"):
    lease = step.claim({"rank": 6}, {})
    assert lease is not None
    lease.publish(make(step, text), {"seconds": 1})
    return lease


def dead_pid():
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    return done.pid


def test_claim_and_publish(step):
    assert step.state() == "absent"
    lease = step.claim({"rank": 6}, {"split": {"id": "x"}})
    assert lease is not None
    assert step.state() == "running"
    assert read_json(step.path / "config.json") == {"rank": 6}
    assert read_json(step.path / "inputs.json") == {"split": {"id": "x"}}
    assert not step.is_done()
    lease.publish(make(step), {"seconds": 1})
    assert step.state() == "done"
    assert (step.artifacts / "a.txt").read_text() == "made\n"
    assert set(read_json(step.path / "manifest.json")) == {"a.txt", "sub/b.txt"}
    assert read_json(step.path / "run.json") == {"seconds": 1}
    assert step.owner() is None
    assert not step.work.exists()
    assert not list(step.path.glob(".*.*"))


def test_a_done_step_is_not_claimed(step):
    publish(step)
    assert step.claim({"rank": 6}, {}) is None


@pytest.mark.parametrize(
    "tear",
    [
        lambda step: (step.artifacts / "a.txt").write_text("mad"),
        lambda step: (step.artifacts / "sub" / "b.txt").unlink(),
        lambda step: (step.path / "manifest.json").unlink(),
        lambda step: (step.path / "manifest.json").write_text('{"a.txt": {"by'),
        lambda step: (step.path / "DONE").unlink(),
    ],
    ids=["shorter", "gone", "no-manifest", "torn-manifest", "no-done"],
)
def test_a_torn_step_is_not_done_and_is_made_again(step, tear):
    publish(step)
    tear(step)
    assert not step.is_done()
    publish(step)
    assert step.is_done()
    assert step.corrupt_files() == []


def test_changed_bytes_of_the_same_size_are_found(step):
    publish(step)
    (step.artifacts / "a.txt").write_text("fade\n")
    assert step.corrupt_files() == ["a.txt"]


def test_a_living_owner_is_respected(step):
    lease = step.claim({}, {})
    assert lease is not None
    held = step.owner()
    assert step.claim({}, {}) is None
    assert step.owner() == held
    lease.release()
    assert step.owner() is None


def test_a_dead_owner_on_this_host_is_replaced_at_once(step):
    step.path.mkdir(parents=True)
    lease = {"id": "x", "host": socket.gethostname(), "pid": dead_pid(), "started": "1", "beat": time.time()}
    write_json(step.path / "lease.json", lease | {"restarts": 1})
    assert step.state() == "stale"
    taken = step.claim({}, {})
    assert taken is not None
    assert taken.restarts == 2
    assert read_json(step.path / "lease.json")["restarts"] == 2
    taken.release()


def test_a_pid_that_another_process_got_is_no_owner(step):
    """After a restart of the machine, the owner's pid may belong to anything."""
    step.path.mkdir(parents=True)
    lease = {"id": "x", "host": socket.gethostname(), "pid": 1, "started": "not then", "beat": time.time()}
    write_json(step.path / "lease.json", lease)
    assert step.state() == "stale"


@pytest.mark.parametrize(("beats", "alive"), [(0, True), (2.5, True), (3.5, False)])
def test_an_owner_on_another_host_lives_three_beats(step, beats, alive):
    step.path.mkdir(parents=True)
    lease = {"id": "x", "host": "elsewhere", "pid": 1, "started": "1", "beat": time.time() - beats * store.BEAT_SECONDS}
    assert lease_alive(lease) is alive
    write_json(step.path / "lease.json", lease)
    taken = step.claim({}, {})
    assert (taken is None) is alive
    if taken:
        taken.release()


def test_the_heart_beats(step, monkeypatch):
    monkeypatch.setattr(store, "BEAT_SECONDS", 0.02)
    lease = step.claim({}, {})
    first = step.owner()["beat"]
    deadline = time.time() + 5
    while step.owner()["beat"] == first and time.time() < deadline:
        time.sleep(0.01)
    assert step.owner()["beat"] > first
    lease.release()


def test_the_heart_notices_a_loss_and_no_release(step, monkeypatch):
    monkeypatch.setattr(store, "BEAT_SECONDS", 0.02)
    lease = step.claim({}, {})
    write_json(step.path / "lease.json", {"id": "other", "host": "elsewhere", "pid": 1, "beat": time.time()})
    assert lease.lost.wait(5)
    (step.path / "lease.json").unlink()
    given = step.claim({}, {})
    given.release()
    assert not given.lost.wait(0.1)


def test_the_heart_beats_while_files_are_read_back(step, monkeypatch):
    """Large models take minutes."""
    monkeypatch.setattr(store, "BEAT_SECONDS", 0.02)
    lease, real, beats = step.claim({}, {}), store.file_sha256, []

    def slow(path):
        before = step.owner()["beat"]
        deadline = time.time() + 5
        while step.owner()["beat"] == before and time.time() < deadline:
            time.sleep(0.01)
        beats.append(step.owner()["beat"] > before)
        return real(path)

    monkeypatch.setattr(store, "file_sha256", slow)
    lease.publish(make(step), {})
    assert beats == [True] * 4
    assert step.is_done()


def test_what_does_not_read_back_is_not_published(step, monkeypatch):
    lease, digests = step.claim({}, {}), iter("abcd")
    monkeypatch.setattr(store, "file_sha256", lambda path: next(digests))
    with pytest.raises(OSError, match=r"a\.txt did not read back as written"):
        lease.publish(make(step), {})
    assert not step.artifacts.exists()
    lease.release()


def test_a_lost_lease_publishes_nothing(step):
    lease = step.claim({}, {})
    other = {"id": "other", "host": "elsewhere", "pid": 1, "started": "1", "beat": time.time()}
    write_json(step.path / "lease.json", other)
    with pytest.raises(LeaseLost):
        lease.publish(make(step), {})
    lease.fail({"class": "code"}, {})
    lease.release()
    assert not step.is_done()
    assert not step.artifacts.exists()
    assert step.failure() is None
    assert step.owner() == other


def test_a_failure_is_kept_until_the_next_try(step):
    lease = step.claim({}, {})
    step.work.mkdir()
    (step.work / "last.ckpt").write_text("kept")
    lease.fail({"class": "code", "message": "no", "hint": "look"}, {"seconds": 1})
    assert step.state() == "failed"
    assert step.failure() == {"class": "code", "message": "no", "hint": "look"}
    again = step.claim({}, {})
    assert again is not None
    assert step.failure() is None
    assert (step.work / "last.ckpt").read_text() == "kept"
    again.release()


def log_of(path):
    return collections.Counter(line.split()[0] for line in path.read_text().splitlines())


def test_two_processes_never_double_work(small):
    """Four processes over one study of 35 steps: each step runs once, and all end well with the same study."""
    log = small.folder / "log.txt"
    procs = [small.spawn("run", FAKE_LOG=str(log), FAKE_SLEEP="0.03") for _ in range(4)]
    told = [proc.communicate(timeout=120) for proc in procs]
    assert [proc.returncode for proc in procs] == [0] * 4, told
    ran = log_of(log)
    assert len(ran) == 35
    assert set(ran.values()) == {1}
    assert len({line.split()[1] for line in log.read_text().splitlines()}) > 1


@pytest.fixture
def undisturbed(small):
    """Every artifact's bytes of a run that nothing disturbed, at the same place."""
    assert small("run") == 0
    made = small.bytes()
    small.outputs.rename(small.folder / "first")
    return made


@pytest.mark.parametrize(
    "fault",
    [
        {"FAKE_KILL": "train/abel-persllm-sft"},
        {"FAKE_KILL_AT": "manifest.json"},
        {"FAKE_KILL_AT": "run.json"},
        {"FAKE_KILL_AT": "DONE"},
    ],
    ids=["halfway", "after-the-rename", "after-the-manifest", "before-DONE"],
)
def test_killed_and_run_again_ends_the_same(small, undisturbed, fault):
    log = small.folder / "log.txt"
    killed = small.spawn("run", FAKE_LOG=str(log), **fault)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    last = log.read_text().splitlines()[-1].split()[0]
    assert StepDir(small.outputs / last).state() == "stale"
    again = small.spawn("run", FAKE_LOG=str(log))
    assert again.communicate(timeout=60)[1] == ""
    assert again.returncode == 0
    assert small.bytes() == undisturbed
    assert {step: count for step, count in log_of(log).items() if count > 1} == {last: 2}
    assert json.loads((small.outputs / last / "run.json").read_text())["restarts"] == 1
