"""Tiny steps and persona packs, so that the engine is tested without a model.

`python tests/fakes.py VERB key=value ...` is the command line with these steps in place of the real ones, and
`python tests/fakes.py exec PYTHON -m MODULE ...` runs a module with them; environment variables make them misbehave
(see ``Fake``).
"""

import hashlib
import json
import os
import runpy
import signal
import sys
import time
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from persllm import store
from persllm.identity import canonical
from persllm.steps import VERSIONS
from persllm.stop import Interrupted, stop_asked

TABLE = "arm,metric,mean,low,high,n,missing,train_seconds,train_tokens,prompt_tokens,seconds_per_reply,peak_memory_mb\n"
CONTRASTS = "arm,baseline,metric,difference,low,high,p,p_adjusted,n_items,detectable\n"
METRICS = ("gold_log_likelihood", "who_accuracy", "false_premise_acceptance", "bleu", "as_an_ai_rate")


class Fake:
    """A step whose artifact is a digest of its meaning and its inputs' artifacts.

    FAKE_LOG=FILE appends a line per execution; FAKE_FAIL=TEXT raises where the id contains the text;
    FAKE_SLEEP=SECONDS works that long, minding stops (FAKE_DEAF: not minding them), goes on where it was stopped,
    and does so only where the id contains FAKE_SLOW=TEXT;
    FAKE_KILL=TEXT kills the process halfway through; FAKE_KILL_AT=FILE where the store would write that file.
    """

    def __init__(self, name):
        self.name = name

    def run(self, ctx):
        env = os.environ
        if "FAKE_LOG" in env:
            with Path(env["FAKE_LOG"]).open("a") as file:
                file.write(f"{ctx.id} {os.getpid()}\n")
        if env.get("FAKE_FAIL", "no step") in ctx.id:
            raise RuntimeError("made to fail")
        if env.get("FAKE_SLOW", "") in ctx.id:
            _work(ctx, float(env.get("FAKE_SLEEP", 0)))
        digest = hashlib.sha256(canonical(ctx.config))
        for _, folder in sorted(ctx.inputs.items()):
            digest.update((folder / "digest.txt").read_bytes())
        if self.name == "train":
            (ctx.out / "adapter").mkdir()
            (ctx.out / "adapter" / "weights.txt").write_text("half of it\n")
        if env.get("FAKE_KILL", "no step") in ctx.id:
            (ctx.out / "leftover.tmp").write_text("torn")
            os.kill(os.getpid(), signal.SIGKILL)
        (ctx.out / "digest.txt").write_text(digest.hexdigest() + "\n")
        if self.name == "compare":
            _tables(ctx)
        if self.name == "report":
            (ctx.out / "report.html").write_text("<!doctype html>\n")


def _work(ctx, seconds):
    saved = ctx.work / "worked.txt"
    before = float(saved.read_text()) if saved.exists() else 0.0
    start = time.time()
    while before + time.time() - start < seconds:
        if stop_asked() and "FAKE_DEAF" not in os.environ:
            saved.write_text(str(before + time.time() - start))
            raise Interrupted
        time.sleep(0.01)


def _tables(ctx):
    cells = {cell["arm"]: cell["baseline"] for cell in ctx.config["cells"]}
    rows = "".join(f"{arm},{metric},-2.5,-2.75,-2.25,24,0,12,3400,210,1.5,900\n" for arm in cells for metric in METRICS)
    told = "".join(
        f"{arm},{base},{metric},0.25,0.1,0.4,0.002,0.004,24,0.2\n"
        for arm, base in cells.items()
        for metric in METRICS
        if arm != base
    )
    (ctx.out / "table.csv").write_text(TABLE + rows)
    (ctx.out / "contrasts.csv").write_text(CONTRASTS + told)


def modules():
    """Return the fake step modules by import name."""
    made = {}
    for name in VERSIONS:
        module = types.ModuleType(f"persllm.steps.{name}")
        module.run = Fake(name).run
        made[module.__name__] = module
    return made


def make_pack(folder, name):
    """Write a small pack with two stages, one premise pair and full re-answers each."""
    root = folder / name
    card = f"name: {name.title()}\nidentity: a lighthouse keeper\nprofile: {name.title()} keeps the light.\nstages:\n"
    for stage in ("early", "late"):
        (root / stage).mkdir(parents=True)
        card += f"  {stage}: {{label: '{stage} in life', summary: 'the {stage} years'}}\n"
        for kind in ("knowledge", "speech"):
            lines = [f"[log {i}] {name} {stage} {kind} paragraph {i}." for i in range(1, 5)]
            (root / stage / f"{kind}.txt").write_text("\n".join(lines) + "\n")
        rows = [
            ("k1", "knowledge", "knowledge/1", None),
            ("o1", "opinion", "speech/1", None),
            ("f1", "false_premise", "knowledge/2", "t1"),
            ("t1", "true_premise", "knowledge/2", "f1"),
        ]
        keys = ("id", "pattern", "material", "premise_pair", "question", "analysis", "response")
        items, answers = [], []
        other = "late" if stage == "early" else "early"
        for short, pattern, material, twin in rows:
            pair = twin and f"{stage}-{twin}"
            item = (f"{stage}-{short}", pattern, material, pair, f"What of {short}?", "Think.", f"{name} says {short}.")
            items.append(dict(zip(keys, item, strict=True)))
            answers.append({"item": f"{other}-{short}", "analysis": "Think.", "response": f"{stage} answer"})
        for file, found in (("items", items), ("reanswers", answers)):
            (root / stage / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (root / "persona.yaml").write_text(card)
    return root


def _kill_at(place):
    """Kill the process where the store is about to write the named file of the first publication."""
    write = store.write_atomic

    def killing(path, data):
        if path.name == place and (path.parent / "artifacts").is_dir():
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, data)

    store.write_atomic = killing


if __name__ == "__main__":
    from persllm import cli

    sys.modules.update(modules())
    if "FAKE_KILL_AT" in os.environ:
        _kill_at(os.environ["FAKE_KILL_AT"])
    if sys.argv[1] == "exec":
        sys.argv = sys.argv[4:]
        runpy.run_module(sys.argv[0], run_name="__main__")
    else:
        sys.exit(cli.main(sys.argv[1:]))
