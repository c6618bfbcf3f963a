"""The benchmarks do the same work on both sides. Their times are no test."""

import importlib.util
import re

import pytest
import tiny

from benchmarks import __main__ as benchmarks


@pytest.fixture(autouse=True)
def _process_as_it_is(monkeypatch):
    # Setting up a process would outlast the test.
    monkeypatch.setattr(benchmarks, "_prepare", lambda: None)


@pytest.fixture
def words(tmp_path):
    model = tiny.make_model(tmp_path / "model")
    pairs = ["pairs.cross_persona=false", f"outputs={tmp_path}"]
    return ["model=hf", f"model.path={model}", "model.dtype=float32", "model.max_length=6000", *pairs]


def test_both_sides_count_the_same_and_lose_the_same(words, capsys):
    if importlib.util.find_spec("trl") is None:
        pytest.skip("TRL is not installed; make bench installs it")
    assert benchmarks.main(["--quick", "--only", "sft", "--only", "dpo", *words]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if len(line) > 80] == []
    for section, sides in (("SFT", 2), ("DPO", 3)):
        (counts,) = re.findall(rf"ok +{section} tokens read/with loss: (.*)", out)
        assert len(counts.split(", ")) == sides
        assert len(set(counts.split(", "))) == 1
        assert len(re.findall(rf"ok +{section} .*loss", out)) == 3
    assert "BAD" not in out


def test_generation_gives_the_same_texts_and_needs_no_trl(words, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert benchmarks.main(["--quick", "--only", "generation", *words]) == 0
    out = capsys.readouterr().out
    assert out.count("ok  text same texts, float32: 100%") == 4


def test_reading_gives_the_same_texts_and_likelihoods(words, capsys):
    assert benchmarks.main(["--quick", "--only", "reading", *words]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert out.count("same texts, float32: 100%") >= 2
    assert len(re.findall(r"ok +\d+ shared, same likelihoods, float32", out)) == 2
    shared = sorted({int(count) for count in re.findall(r"(\d+) shared,", out)})
    assert len(shared) == 2
    assert shared[0] >= 100
    assert shared[1] >= 2000


def test_a_missing_trl_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert benchmarks.main(["--quick"]) == 2
    assert capsys.readouterr().err == (
        "error: TRL, which is compared with, is not installed; `make bench` installs it and runs this\n"
    )


def test_a_wrong_key_is_told_before_any_work(capsys):
    if importlib.util.find_spec("trl") is None:
        pytest.skip("TRL is not installed; make bench installs it")
    assert benchmarks.main(["--quick", "no.such=1"]) == 2
    assert "unknown key" in capsys.readouterr().err
