"""What ``persllm annotate`` tells of personas that fail, and the context of a local model that also sees."""

import argparse
import contextlib
import shutil
import types

import tiny
from fakes import make_pack
from scribe import Scribe
from test_annotators import make_raw, words
from transformers import Gemma3Config

from persllm import cli, compose, plan
from persllm.annotators import REFUSED, Request, inquiry
from persllm.annotators.local import Local
from persllm.execute import Outcome
from persllm.language_model import load_tokenizer
from persllm.verbs import annotate

FEW = ("annotate.knowledge=2", "annotate.opinion=1", "annotate.premise=1")


def renamed(root, name):
    other = shutil.copytree(root, root.with_name(name.lower()))
    card = other / "persona.yaml"
    card.write_text(card.read_text().replace("Ada Finn", f"Bo {name}").replace("Ada", "Bo"))
    return other


def test_all_that_failed_is_told_and_all_that_succeeded_is_shown(tmp_path, capsys):
    keeper = make_raw(tmp_path)
    packs = [renamed(keeper, "Warden"), keeper, renamed(keeper, "Wardress")]
    with Scribe(refuses="Bo Ward") as scribe:
        given = words(scribe, ",".join(map(str, packs)), tmp_path / "out", *FEW)
        assert cli.main(["annotate", *given]) == 2
        asked = len(scribe.asked)
        assert cli.main(["annotate", *given]) == 2
        assert len(scribe.asked) == asked + 16, "only what was refused is asked for again"
    told = capsys.readouterr()
    assert told.out.count("keeper: 10 items, 10 answers to another stage's") == 2
    for name in ("warden", "wardress"):
        said = f"error: {name}: api:scribe refuses every request, the last with: "
        assert told.err.count(said) == 2
    assert "of Bo Ward the prompt is too long" in told.err
    assert "annotate.max_tokens" in told.err


def test_a_step_that_another_process_took_over_is_no_failure_of_its_own(tmp_path, capsys):
    overrides = [f"persona={make_pack(tmp_path, 'abel')}", f"outputs={tmp_path / 'out'}"]
    steps = plan.annotate_steps(compose.resolve(overrides))
    args = argparse.Namespace(overrides=overrides)
    assert annotate._failed(args, steps, Outcome(failed=list(steps)), tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert f"error: {steps[0].id}: another process took this step over; see persllm status\nto go on:\n" in told


def test_a_model_that_also_sees_says_how_long_a_prompt_may_be(tmp_path):
    local = Local(str(tiny.make_model(tmp_path / "model")), 1, tmp_path)
    model = types.SimpleNamespace(config=Gemma3Config(text_config={"max_position_embeddings": 9}))
    local.loaded = model, load_tokenizer(local.model)
    request = Request([{"role": "user", "content": "Say it."}], 0, 0.0, 8)
    ((index, answer),) = local.answer([request], set(), lambda: True)
    assert (index, answer.finish_reason, local.tries) == (0, REFUSED, 1)
    assert "8 of answer are more than the model's context of 9" in answer.text


def test_the_bar_advances_with_every_answer_and_ends_full(tmp_path, monkeypatch):
    shown = {}

    @contextlib.contextmanager
    def bar(total, label):
        moves = shown[label] = []
        yield moves.append
        assert sum(moves) == total

    monkeypatch.setattr(inquiry, "bar", bar)
    with Scribe() as scribe:
        assert cli.main(["annotate", *words(scribe, make_raw(tmp_path), tmp_path / "out", *FEW)]) == 0
    assert set(shown) == {"questions", "responses", "reanswers"}
    assert all(moves.count(1) == sum(moves) for moves in shown.values())
