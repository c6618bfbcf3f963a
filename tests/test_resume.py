"""Killed anywhere and run again, a train step ends with the bytes of an undisturbed run.

Children are forked from a server that has imported the step, so that a process costs no import of torch.
"""

import multiprocessing
import os
import random
import shutil
import signal

import pytest
import tiny as tiny_module

from persllm import execute
from persllm.errors import UserError
from persllm.steps import train
from persllm.training import weights
from persllm.training.callbacks import Keeper

pytestmark = pytest.mark.pipeline

QUICK = ["method.tune.repeat=1", "method.tune.general=false", "method.tune.reanswers=false"]
QUICK += ["strategy.micro_batch=2", "method.tune.materials=false"]
QUICK += ["pairs.cross_persona_limit=24", "pairs.cross_stage_limit=24"]
SFT = [*QUICK, "method.tune.sft.batch_size=8", "method.tune.sft.validations=4", "method.tune.lora.dropout=0.1"]
# A dozen items learned by heart, validated at every step: the held-out loss rises, and stopping waits across kills.
STOPPING = [*QUICK, "method.tune.adapter=full", "split.test=0.6", "split.dev=0.3", "method.tune.sft.epochs=20"]
STOPPING += ["method.tune.sft.batch_size=8", "method.tune.sft.learning_rate=0.02", "method.tune.sft.patience=3"]
STOPPING += ["method.tune.sft.validations=25"]
DPO = [*QUICK, "method.tune.dpo.batch_size=4", "method.tune.dpo.validations=2", "method.tune.lora.dropout=0.1"]
CASES = pytest.mark.parametrize(
    ("objective", "words"), [(0, SFT), (0, STOPPING), (1, DPO)], ids=["sft", "sft-stopping", "dpo"]
)
OFTEN, SELDOM = 1e-6, 1e6


def _train(ctx, kill_at, every, place):
    """Run a train step in a child; SIGKILL it at its ``kill_at``-th micro-batch (None: let it finish)."""
    ctx.local["strategy"]["checkpoint_seconds"] = every
    seen = 0

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    ends, writes = Keeper.on_train_batch_end, weights._write

    def counting(self, *args):
        nonlocal seen
        seen += 1
        if seen == kill_at and place == "before":
            die()
        ends(self, *args)
        if seen == kill_at and place == "after":
            die()

    def torn(folder, tensors, number):
        writes(folder, tensors, number)
        if place == "saving" and kill_at is not None and seen >= kill_at and folder.name.startswith("state"):
            (file,) = folder.glob("*.safetensors")
            file.write_bytes(file.read_bytes()[:100])
            die()

    Keeper.on_train_batch_end, weights._write = counting, torn
    shutil.rmtree(ctx.out)
    ctx.out.mkdir()
    train.run(ctx)
    if place == "after all":
        die()


@pytest.fixture(scope="module")
def children():
    """Return a function that runs ``_train`` in a process of its own and returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_resume"])

    def run(*args):
        child = context.Process(target=_train, args=args)
        child.start()
        child.join(120)
        return child.exitcode

    return run


@pytest.fixture
def undisturbed(lab, tmp_path, objective, words):
    return lab.train(tmp_path / "undisturbed", "persllm", *words, objective=objective)


def micro_batches(ctx):
    rows = 2 if ctx.config["objective"] == "dpo" else 1
    return (
        len(tiny_module.curves(ctx)) * ctx.config["optim"]["batch_size"] * rows // ctx.local["strategy"]["micro_batch"]
    )


def curve_bytes(ctx):
    return (ctx.out / "curves.jsonl").read_bytes()


@CASES
def test_killed_again_and_again_it_ends_the_same(lab, tmp_path, children, undisturbed, objective, words):
    """Five kills of one run at random micro-batches, in places where the state on disk differs most."""
    rng = random.Random(objective + len(words))
    total = micro_batches(undisturbed)
    ctx = lab.context(lab.cell("persllm", *words).train[objective], tmp_path / "killed")
    for place, every in (("before", OFTEN), ("after", 0.05), ("saving", OFTEN), ("after", SELDOM)):
        assert children(ctx, rng.randint(2, total // 3), every, place) == -signal.SIGKILL
    # Trained, exported, and killed before it could be published.
    assert children(ctx, None, OFTEN, "after all") == -signal.SIGKILL
    assert children(ctx, None, OFTEN, "") == 0
    assert curve_bytes(ctx) == curve_bytes(undisturbed)
    assert tiny_module.weights(ctx) == tiny_module.weights(undisturbed)
    assert "resume after step" in (ctx.directory / "log.txt").read_text()


@CASES
def test_resumed_from_a_saved_state_it_ends_the_same(lab, tmp_path, undisturbed, objective, words, monkeypatch):
    """At optimizer steps, before and after validations."""
    real, saved = Keeper._save, []

    def keeping(self, *args):
        real(self, *args)
        folder = tmp_path / f"state{len(saved)}"
        shutil.copytree(ctx.work, folder, ignore=lambda *_: ["artifacts"])
        saved.append((self.step, folder))

    step = lab.cell("persllm", *words).train[objective]
    ctx = lab.context(step, tmp_path / "saving")
    ctx.local["strategy"] = ctx.local["strategy"] | {"checkpoint_seconds": OFTEN}
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "_save", keeping)
        train.run(ctx)
    steps = [row["step"] for row in tiny_module.curves(undisturbed)]
    # At the end nothing is saved: there is nothing to go on with.
    assert [at for at, _ in saved] == steps[:-1]
    assert words is not STOPPING or len(steps) < 20
    for at, folder in [*saved[:-1:2], saved[-1]]:
        ctx = lab.context(step, tmp_path / f"resumed{at}")
        shutil.copytree(folder, ctx.work, dirs_exist_ok=True)
        train.run(ctx)
        assert curve_bytes(ctx) == curve_bytes(undisturbed), at
        assert tiny_module.weights(ctx) == tiny_module.weights(undisturbed), at
        assert ctx.cost["train_tokens"] == undisturbed.cost["train_tokens"]


@pytest.mark.parametrize(("objective", "words"), [(0, SFT)])
def test_a_state_goes_on_with_another_micro_batch(lab, tmp_path, children, undisturbed, objective, words):
    """As a retry with less memory does."""
    ctx = lab.context(lab.cell("persllm", *words).train[objective], tmp_path / "smaller")
    assert children(ctx, 2 * micro_batches(undisturbed) // 3, OFTEN, "after") == -signal.SIGKILL
    ctx.local["strategy"] = ctx.local["strategy"] | {"micro_batch": 1}
    assert children(ctx, None, OFTEN, "") == 0
    assert "resume after step" in (ctx.directory / "log.txt").read_text()
    found, wanted = tiny_module.curves(ctx), tiny_module.curves(undisturbed)
    for name in ("step", "tokens", "learning_rate"):
        assert [row[name] for row in found] == [row[name] for row in wanted]


def test_a_damaged_state_is_one_sentence(lab, tmp_path, children):
    ctx = lab.context(lab.cell("persllm", *SFT).train[0], tmp_path / "damaged")
    assert children(ctx, 20, OFTEN, "after") == -signal.SIGKILL
    (state,) = ctx.work.glob("state-*")
    (file,) = state.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"part-0000-0000.safetensors: {len(whole) - 1:,} of {len(whole):,} bytes"):
        train.run(ctx)
    file.unlink()
    with pytest.raises(UserError, match=r"delete .*state-.* to train from the start"):
        train.run(ctx)
    (state / "index.json").write_text("{")
    with pytest.raises(UserError, match=r"no readable index\.json"):
        train.run(ctx)


def test_a_state_holds_what_is_trained_and_nothing_frozen(lab, tmp_path, children):
    ctx = lab.context(lab.cell("persllm", *SFT).train[0], tmp_path / "state")
    assert children(ctx, 20, OFTEN, "after") == -signal.SIGKILL
    (state,) = ctx.work.glob("state-*")
    names = set(weights.Folder(state))
    assert len(names) == 3 * 28
    assert all("lora_" in name for name in names)
    assert not [path for path in ctx.work.rglob("*") if path.suffix in (".ckpt", ".pt", ".bin")]


@pytest.mark.parametrize("validations", [1, 12])
def test_a_stop_saves_the_state_and_is_heard_at_the_next_step(lab, tmp_path, monkeypatch, validations):
    """Also where every step is validated."""
    words = [*SFT, f"method.tune.sft.validations={validations}"]
    ctx = lab.context(lab.cell("persllm", *words).train[0], tmp_path / "stopped")
    real = Keeper.on_train_batch_end

    def asking(self, trainer, *args):
        if self.step == 2:
            monkeypatch.setattr("persllm.stop._stopped_by", signal.SIGTERM)
        real(self, trainer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "on_train_batch_end", asking)
        with pytest.raises(execute.Interrupted):
            train.run(ctx)
    monkeypatch.setattr("persllm.stop._stopped_by", None)
    logged = (ctx.directory / "metrics.jsonl").read_text()
    assert '"step": 3' in logged
    assert '"step": 4' not in logged
    train.run(ctx)
    whole = lab.train(tmp_path / "whole", "persllm", *words)
    assert tiny_module.weights(ctx) == tiny_module.weights(whole)
    assert curve_bytes(ctx) == curve_bytes(whole)
