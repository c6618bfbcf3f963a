"""What the verbs print."""

import importlib.metadata
import io
import json
import os
import re
import shlex
import socket
import time

import pytest
from rich.console import Console

from persllm import cli, store
from persllm.store import _process_start, write_json
from persllm.verbs import command, compare, counted, duration


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_usage(capsys):
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    told = capsys.readouterr()
    assert told.out == told.err
    assert all(f"  {verb} " in told.out for verb in cli.VERBS)
    assert max(map(len, told.out.splitlines())) <= 80
    assert cli.main(["--version"]) == 0


def test_flags_and_overrides_in_any_order(small, capsys):
    assert cli.main(["plan", "--json", *small.words]) == 0
    first = capsys.readouterr().out
    assert cli.main(["plan", *small.words[:3], "--json", *small.words[3:]]) == 0
    assert capsys.readouterr().out == first


def test_plan_table(small, capsys):
    assert small("plan") == 0
    told = lines(capsys)
    assert told[0].split() == ["step", "label", "state", "time", "why"]
    assert told[1].split() == ["materials", "abel", "to", "run", "?", "new"]
    assert "small: 6 cells, 35 steps: 35 to run" in told
    assert "expected time: unknown for 35 (none like them has finished here yet)" in told
    assert any(line.startswith(f"study folder: {small.outputs}/studies/small-") for line in told)
    assert max(map(len, told[:-2])) <= 80
    assert not small.outputs.exists()


def test_plan_sums_up_many_steps(small, capsys):
    assert small("plan", "seed=range(0,10)") == 0
    told = "\n".join(lines(capsys))
    assert "and 77 more" in told
    assert "every step with its reason: --json" in told


def test_plan_names_what_was_replaced(small, capsys):
    assert small("plan", "method=sft") == 0
    assert "note: baseline prompt_profile is not among the arms; sft takes its place" in lines(capsys)


def test_run_tells_each_step_once(small, capsys):
    assert small("run") == 0
    told = lines(capsys)
    assert re.fullmatch(r"\[1/35\] materials abel +\d+\.\ds", told[0])
    assert sum(line.startswith("[") for line in told) == 35
    assert any(line.startswith("[35/35] report small") for line in told)
    closing = told[-2:]
    assert closing[0].endswith("/report.html")
    assert closing[1].startswith("chat: persllm chat persona=")
    assert "stage=late method=persllm" in closing[1]


def test_run_as_json_keeps_progress_apart(small, capsys):
    assert small("run", "--json") == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)["done"]) == 35
    assert "[35/35]" in told.err


def test_the_chat_command_plans_a_step_that_is_done(small, capsys):
    """Chat composes one persona; the adapter it looks for must be the one that the study trained."""
    assert small("run", "pairs.rank=5") == 0
    chat = next(line for line in lines(capsys) if line.startswith("chat: "))
    words = [w for w in shlex.split(chat.removeprefix("chat: "))[2:] if not w.startswith("stage=")]
    assert cli.main(["plan", *words, "track=disabled", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert {row["state"] for row in steps if row["step"] in ("train", "generate")} == {"cached"}


def test_status(small, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_FAIL", "pairs/abel")
    assert small("run") == 1
    monkeypatch.delenv("FAKE_FAIL")
    (folder,) = small.outputs.glob("generate/berta-sft-*")
    (folder / "DONE").unlink()
    mine = {"id": "x", "host": socket.gethostname(), "pid": os.getpid(), "beat": time.time(), "restarts": 2}
    write_json(folder / "lease.json", mine | {"started": _process_start(os.getpid())})
    capsys.readouterr()
    assert small("status") == 0
    told = "\n".join(lines(capsys))
    assert "failed" in told
    assert f"pid {os.getpid()}" in told.replace("\n", " ")
    assert "2 restarts" in " ".join(told.split())
    assert "small: 35 steps: 27 done, 1 running, 1 failed, 6 to run" in told
    assert "to try the failed ones again: persllm retry study.name=small" in told
    assert small("status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"done": 27, "running": 1, "interrupted": 0, "failed": 1, "to run": 6}
    (running,) = [row for row in found["steps"] if row["state"] == "running"]
    assert running["lease"]["pid"] == os.getpid()


def test_compare_says_what_to_run_first(small, capsys):
    assert small("compare") == 2
    assert (
        "no cell of this study is evaluated yet; run it first: persllm run study.name=small" in capsys.readouterr().err
    )
    assert not small.outputs.exists()


def test_compare_after_a_partial_run(small, monkeypatch, capsys):
    assert small("run", "method=prompt_profile") == 0
    capsys.readouterr()
    assert small("compare") == 2
    told = capsys.readouterr().err
    assert "4 of 6 cells not evaluated yet" in told
    assert "`persllm report study.name=small" in told
    assert small("report") == 0
    told = lines(capsys)
    assert told[-1].endswith("/report.html")
    assert "4 cells: sft abel s0" in " ".join(told)
    assert small("compare") == 0


def test_compare_makes_the_table_where_every_cell_is_there(small, capsys):
    assert small("run") == 0
    for name in ("compare", "report"):
        for done in small.outputs.glob(f"{name}/*/DONE"):
            done.unlink()
    (study,) = small.outputs.glob("studies/*")
    (study / "study.json").unlink()
    capsys.readouterr()
    assert small("compare") == 0
    told = lines(capsys)
    assert told[0].startswith("[1/2] compare small")
    assert "gold_log_likelihood (higher is better; the primary metric)" in told


def test_compare_shows_every_number_at_80_columns(small, capsys):
    assert small("run") == 0
    capsys.readouterr()
    assert small("compare") == 0
    told = lines(capsys)
    assert max(map(len, told[:-1])) <= 80
    text = "\n".join(told)
    for arm in ("prompt_profile", "sft", "persllm"):
        assert text.count(f"\n{arm} ") >= 3
    assert "sft      prompt_profile  +0.250  [0.100, 0.400]  0.0040       0.200" in text
    assert "(lower is better)" in text
    assert small("compare", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["table"]) == 15
    assert found["missing"] == []


@pytest.mark.parametrize(("text", "shown"), [("", "-"), ("nan", "-"), ("-2.34567", "-2.346"), ("12345.6", "12,346")])
def test_numbers(text, shown):
    assert compare._number(text) == shown


def test_doctor(small, capsys):
    code = small("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert code == (1 if any(row["level"] == "bad" for row in found) else 0)
    levels = {row["what"]: row["level"] for row in found}
    assert levels["torch"] == levels["hydra-core"] == levels["outputs"] == "ok"
    assert {"python", "threads", "device", "memory", "model", "embedder", "slurm", "wandb"} <= levels.keys()


def test_doctor_knows_a_malicious_release(small, monkeypatch, capsys):
    real = importlib.metadata.version
    fake = {"pytorch-lightning": "2.6.3", "hydra-core": "1.4.0rc3"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: fake.get(name) or real(name))
    assert small("doctor", "--json") == 1
    found = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["pytorch-lightning"]["level"] == "bad"
    assert "malicious" in found["pytorch-lightning"]["found"]
    assert found["hydra-core"]["level"] == "bad"


def test_doctor_finds_outputs_that_cannot_be_written(small, capsys):
    (small.folder / "file").write_text("")
    assert small("doctor", f"outputs={small.folder}/file/x", "--json") == 1
    found = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["outputs"]["level"] == "bad"


def test_a_full_disk_is_one_sentence(small, monkeypatch, capsys):
    """The lease itself cannot be written: no step could even fail."""

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(store, "write_atomic", full)
    assert small("run") == 1
    told = capsys.readouterr().err
    assert "No space left on device; mend it and run the same command again" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (72, "1m12s"), (3599.6, "1h00m"), (7500, "2h05m")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_small_texts():
    assert command("run", ["seed=range(0,3)", "pairs.rank=8"]) == "persllm run 'seed=range(0,3)' pairs.rank=8"
    assert counted(["a", "b", "a"], ("b", "a", "c")) == "1 b, 2 a"


def test_the_shipped_arms_names_fit_beside_a_contrast():
    """No name is folded on 80 columns, where the shipped study's longest arms meet."""
    row = {"arm": "prompt_few_shot", "baseline": "prompt_few_shot", "difference": "-0.136", "low": "-0.169"}
    row |= {"high": "-0.104", "p_adjusted": "0.0011", "detectable": "0.046"}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(compare._contrasts([row]))
    assert len(console.export_text().splitlines()) == 2
