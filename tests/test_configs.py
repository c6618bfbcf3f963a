"""Every file under conf/ is short, typed and usable."""

import importlib
import re

import pytest

from persllm import cli, compose, groups, plan
from persllm.schema import GROUPS

FILES = sorted(compose.CONF.rglob("*.yaml"))
HF = ["model.path=none/tiny"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_file_is_short_and_names_no_code(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 30
    assert "_target_" not in text


def test_each_group_of_the_schema_is_a_folder_with_help():
    folders = {path.name for path in compose.CONF.iterdir() if path.is_dir()}
    assert folders == set(GROUPS) == set(groups.GROUPS_HELP)
    assert set(groups.default_options()) == set(GROUPS)


@pytest.mark.parametrize(
    ("group", "option"),
    [(path.parent.name, path.stem) for path in FILES if path.parent != compose.CONF and path.parent.name != "study"],
    ids=lambda text: text,
)
def test_option_passes_the_schema(group, option):
    needs = {("model", "hf"): HF, ("annotate", "api"): ["annotate.model=some-model"]}
    needs |= {("judge", "api"): ["judge.model=some-model"], ("judge", "local"): ["judge.model=none/tiny"]}
    words = [f"{group}={option}", *needs.get((group, option), [])]
    one = [word for word in ("method=persllm", "persona=scrooge") if not word.startswith(group)]
    resolved = compose.resolve(words + one)
    assert resolved.cells


@pytest.mark.parametrize("study", compose.options("study"))
def test_study_plans(study):
    assert plan.build(compose.resolve([f"study={study}"])).steps


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_shows_examples_and_every_option(capsys, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as leaving:
        cli.main([verb, "--help"])
    told = capsys.readouterr().out
    assert leaving.value.code == 0
    assert f"persllm {verb}" in told.split("examples:")[1]
    looked_at = getattr(importlib.import_module(f"persllm.verbs.{verb}"), "GROUPS", GROUPS)
    assert set(re.findall(r"^  (\w+): ", told, flags=re.MULTILINE)) == set(looked_at)
    for group in looked_at:
        for option in compose.options(group):
            assert option in told
