"""The study's steps and their fingerprints.

`python tests/test_plan.py` writes tests/golden/fingerprints.json anew. Do so when a change is MEANT to re-run
everybody's finished steps (a new semantic field, another default, a raised code version), and say so in the commit.
"""

import copy
import enum
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fakes
import pytest
from conftest import MODEL, Small

from persllm import cli, compose, finish, nodes, plan
from persllm.errors import UserError
from persllm.validate import flatten

GOLDEN = Path(__file__).parent / "golden" / "fingerprints.json"


def build(words):
    return plan.build(compose.resolve(words))


def fingerprints(made):
    """Return each step's fingerprint by its name and label."""
    return {f"{step.name}/{step.label}": step.fingerprint for step in made.steps}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def base(study):
    """The study's plan before any change."""
    return build(study.words)


def smoke(folder):
    return fingerprints(build(Small(folder).words))


def test_golden(tmp_path):
    """No fingerprint changes unnoticed. Model and packs are made up here, so that only code and conf count."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert smoke(tmp_path) == golden, "if meant, write it anew: python tests/test_plan.py"


def test_planned_twice_is_byte_identical(small, capsys):
    told = []
    for _ in range(2):
        assert small("plan", "--json") == 0
        told.append(capsys.readouterr().out)
    other = small.spawn("plan", "--json", PYTHONHASHSEED="7")
    assert told[0] == told[1] == other.communicate()[0]
    assert not small.outputs.exists()


def test_where_things_lie_is_no_meaning(base, tmp_path):
    assert smoke(tmp_path / "elsewhere") == fingerprints(base)


NOT_SEMANTIC = [
    "strategy.micro_batch=4",
    "strategy.checkpoint_seconds=5",
    "launch.threads=2",
    "track=offline",
    "track.project=other",
    "outputs=/elsewhere",
    "study.name=other",
]


def test_no_step_changes_with_what_is_not_semantic(study, base):
    now = build([*study.words, *NOT_SEMANTIC])
    assert fingerprints(base) == fingerprints(now)
    assert base.fingerprint == now.fingerprint


TUNED = ("abel-sft-s0", "abel-persllm-s0")
ALL = ("abel-prompt_profile-s0", *TUNED)


def both(*labels):
    """Return steps by persona abel, and the same of berta."""
    return {label.replace("abel", name) for label in labels for name in ("abel", "berta")}


def after(*labels):
    return both(*(f"generate/{label}" for label in labels), *(f"evaluate/{label}" for label in labels))


SFT = both("train/abel-persllm-sft-s0")
DPO = both("train/abel-persllm-dpo-early-s0") | both("train/abel-persllm-dpo-late-s0")
NONE = both("generate/abel-prompt_none-s0", "evaluate/abel-prompt_none-s0")


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("method.tune.dpo.beta=0.3", DPO | after("abel-persllm-s0")),
        ("method.tune.dpo.nll_weight=0.3", DPO | after("abel-persllm-s0")),
        ("pairs.rank=8", both("pairs/abel") | DPO | after("abel-persllm-s0")),
        ("pairs.cross_stage=false", both("pairs/abel") | DPO | after("abel-persllm-s0")),
        ("general.limit=7", {"general/self"} | both("train/abel-sft-sft-s0") | SFT | DPO | after(*TUNED)),
        ("method.tune.sft.epochs=2", both("train/abel-sft-sft-s0") | SFT | DPO | after(*TUNED)),
        ("method.tune.lora.rank=4", both("train/abel-sft-sft-s0") | SFT | DPO | after(*TUNED)),
        ("generate.max_new_tokens=50", NONE | after(*ALL)),
        ("evaluate.metrics=[likelihood]", both(*(f"evaluate/{label}" for label in (*ALL, "abel-prompt_none-s0")))),
        (
            "split.test=0.3",
            both("split/abel", "pairs/abel", "train/abel-sft-sft-s0") | SFT | DPO | NONE | after(*ALL),
        ),
        (
            "model.max_length=512",
            {"general/self"} | both("train/abel-sft-sft-s0") | SFT | DPO | NONE | after(*ALL),
        ),
    ],
)
def test_only_these_change_with(study, base, word, changed):
    before, now = fingerprints(base), fingerprints(build([*study.words, word]))
    assert before.keys() == now.keys()
    assert {step for step in before if before[step] != now[step]} == changed


def test_variants_of_the_baseline_are_compared_with_the_first(study):
    words = [w for w in study.words if not w.startswith("method=")]
    made = build([*words, "method=persllm", "study.baseline=persllm", "pairs.rank=2,4,6"])
    arms = list(dict.fromkeys(cell.cell.arm for cell in made.cells))
    assert len(arms) == 3
    assert {finish.baseline_of(cell.cell, made.resolved) for cell in made.cells} == {arms[0]}


def test_a_persona_is_not_among_its_others(study, base):
    packs = next(word for word in study.words if word.startswith("persona=")).removeprefix("persona=").split(",")
    named = build([*study.words, f"pairs.others=[{','.join(packs)}]"])
    assert fingerprints(named) == fingerprints(base)


def test_lengths_follow_the_general_data(study):
    """Swept, each cell's sequences are as long as its own general data lets them be."""
    swept = build([*study.words, "method=persllm", "study.baseline=persllm", "general.max_new_tokens=64,400"])
    longest = {s.local["longest"]["answer"] for s in swept.steps if s.name == "train"}
    assert len(longest) == 2


def test_general_data_is_known_by_its_content(study, base, tmp_path):
    data = tmp_path / "general.jsonl"
    with pytest.raises(UserError, match=r"general\.source=.*general\.jsonl: no such file"):
        build([*study.words, f"general.source={data}"])
    made = []
    for text in ("{}", "{ }"):
        data.write_text(text)
        made.append(fingerprints(build([*study.words, f"general.source={data}"])))
    changed = {step.split("/")[0] for step in made[0] if made[0][step] != made[1][step]}
    assert changed == {"general", "train", "generate", "evaluate"}


@pytest.mark.parametrize("word", ["compare.resamples=500", "study.primary=bleu", "study.baseline=sft"])
def test_a_comparison_is_no_step_but_is_the_study(study, base, word):
    now = build([*study.words, word])
    assert fingerprints(base) == fingerprints(now)
    assert base.fingerprint != now.fingerprint


def other_value(value):
    """Return another value of the same type."""
    if isinstance(value, enum.Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, *value]
    if isinstance(value, dict):
        return {"none/other": 1.0}
    return 7 if value is None else "none/other"


ELSEWHERE = (
    *("strategy.", "launch.", "track.", "outputs", "model.path"),  # not semantic
    *(
        "study.",
        "persona.",
        "method.name",
        "seed",
        "pairs.others",
        "annotate.",
        "judge.",
    ),  # these have tests of their own
    *("general.mix", "general.scan", "general.seed", "general.split", "general.revision"),  # likewise: of data sets
)


PROBED = "evaluate.metrics=[likelihood,moments]"


def test_every_other_field_is_semantic(study):
    """A field that changes results and no fingerprint would serve stale results: a new field is semantic by default."""
    resolved = compose.resolve([w for w in study.words if not w.startswith("method=")] + ["method=persllm", PROBED])
    before = plan.build(resolved).fingerprint
    for key, value in flatten(resolved.config):
        if key.startswith(ELSEWHERE):
            continue
        changed = copy.deepcopy(resolved)
        for cell in changed.cells:
            *path, leaf = key.split(".")
            setattr(functools.reduce(getattr, path, cell.config), leaf, other_value(value))
        assert plan.build(changed).fingerprint != before, key


def test_how_items_are_written_is_semantic_and_by_which_way_is_not(study, tmp_path):
    pack = fakes.make_pack(tmp_path, "raw")
    for file in pack.glob("*/*.jsonl"):
        file.unlink()
    words = [f"persona={pack}", "method=persllm", "annotate=api", "annotate.model=m", "pairs.cross_stage=false", *MODEL]
    resolved = compose.resolve(words)
    before = plan.build(resolved).fingerprint
    for key, value in flatten(resolved.config.annotate):
        if key == "annotator":
            continue
        changed = copy.deepcopy(resolved)
        *path, leaf = key.split(".")
        setattr(functools.reduce(getattr, path, changed.cells[0].config.annotate), leaf, other_value(value))
        assert (plan.build(changed).fingerprint == before) == key.startswith("endpoint."), key
    local = [word.replace("annotate=api", "annotate=local") for word in words if not word.startswith("annotate.model")]
    assert plan.build(compose.resolve(local)).fingerprint != before


@pytest.mark.parametrize("change", ["scan=9", "seed=9", "split=test", "revision=b", "limit=9", "ratio=2.5"])
def test_how_a_data_set_is_drawn_is_semantic(study, change):
    words = [*study.words, "general.source=ORG/NAME", "general.revision=a"]
    assert build(words).fingerprint != build([*words, f"general.{change}"]).fingerprint


def test_naming_the_others_is_as_leaving_them_out(study, base):
    one = [w for w in study.words if not w.startswith("persona=")] + [f"persona={study.folder}/packs/abel"]
    named = build([*one, f"pairs.others=[{study.folder}/packs/berta]"])
    assert fingerprints(named).items() <= fingerprints(base).items()
    shipped = fingerprints(build(one))
    assert shipped["pairs/abel"] != fingerprints(named)["pairs/abel"]


def test_seed_changes_what_is_random_only(study, base):
    before, now = fingerprints(base), fingerprints(build([*study.words, "seed=1"]))
    kept = before.keys() & now.keys()
    assert {"materials/abel", "split/abel", "pairs/abel", "general/self", "generate/abel-prompt_profile-s0"} <= kept
    assert all(before[step] == now[step] for step in kept)
    assert {"train/abel-sft-sft-s1", "generate/abel-sft-s1", "evaluate/abel-persllm-s1"} <= now.keys()


def test_a_changed_pack_changes_what_reads_it(small):
    before = fingerprints(build(small.words))
    with (small.folder / "packs" / "abel" / "early" / "speech.txt").open("a") as file:
        file.write("One more.\n")
    now = fingerprints(build(small.words))
    changed = {step for step in before if before[step] != now[step]}
    assert {"materials/abel", "split/abel", "pairs/berta", "evaluate/berta-sft-s0"} <= changed
    assert not changed & {"materials/berta", "split/berta", "train/berta-sft-sft-s0", "general/self"}


def test_a_raised_code_version_reruns_the_step_and_what_follows(study, base, monkeypatch):
    before = fingerprints(base)
    monkeypatch.setitem(nodes.VERSIONS, "pairs", 99)
    now = fingerprints(build(study.words))
    assert {s for s in before if before[s] != now[s]} == both("pairs/abel") | DPO | after("abel-persllm-s0")


def test_arms_share_what_they_can(base):
    names = [step.name for step in base.steps]
    assert {name: names.count(name) for name in set(names)} == {
        "materials": 2,
        "annotate": 2,
        "split": 2,
        "general": 1,
        "pairs": 2,
        "train": 8,
        "generate": 8,
        "evaluate": 8,
    }


def test_steps_stand_after_their_inputs(base):
    seen = set()
    for step in base.steps:
        assert all(needed.id in seen for needed in step.inputs.values())
        seen.add(step.id)


def test_explains_a_rerun(small, capsys):
    assert small("run") == 0
    capsys.readouterr()
    assert small("plan", "pairs.rank=8", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    why = {f"{row['step']}/{row['label']}": row["why"] for row in told["steps"] if row["state"] != "cached"}
    assert why["pairs/abel"] == "re-run because rank 6 -> 8"
    assert why["train/abel-persllm-dpo-early-s0"] == "re-run because input pairs changed"
    assert why["compare/small"] == "waits for 2 of 6 cells"
    assert len(why) == 12
    seconds = {row["expected_seconds"] for row in told["steps"] if row["state"] != "cached"}
    assert all(isinstance(value, float) for value in seconds)


def test_explains_what_was_interrupted_or_torn(small, capsys):
    assert small("run") == 0
    (pairs,) = small.outputs.glob("pairs/abel-*")
    (pairs / "artifacts" / "digest.txt").write_text("torn")
    (split,) = small.outputs.glob("split/abel-*")
    (split / "DONE").unlink()
    capsys.readouterr()
    small("plan", "--json")
    why = {f"{row['step']}/{row['label']}": row["why"] for row in json.loads(capsys.readouterr().out)["steps"]}
    assert why["pairs/abel"] == "re-run because its artifacts are incomplete"
    assert why["split/abel"] == "interrupted; continues"


def test_imports_no_torch_and_is_quick():
    """Processor time, not elapsed time: other work on the machine is not the plan's."""
    code = (
        "import sys, time; from persllm import cli; assert cli.main(['plan', 'outputs=/nowhere']) == 0; "
        "heavy = {'torch', 'transformers', 'pytorch_lightning', 'matplotlib', 'numpy', 'wandb'} & set(sys.modules); "
        "assert not heavy, heavy; print(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert float(done.stderr) < 2
    assert "47 steps: 47 to run" in done.stdout


def test_a_thousand_cells(capsys, tmp_path):
    words = ["method=prompt_rag,persllm", "persona=scrooge", "seed=range(0,500)", f"outputs={tmp_path}/out"]
    assert cli.main(["plan", *words]) == 0
    told = capsys.readouterr().out
    assert "1000 cells" in told
    assert max(map(len, told.splitlines()[:-2])) <= 80


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(smoke(Path(folder)), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote {GOLDEN}")


def test_power_is_told_before_the_run_and_grows_with_items():
    from persllm import power

    words = ["persona=scrooge", "method=prompt_name"]
    small, large = (build([*words, f"split.test={share}"]) for share in (0.1, 0.4))
    assert 0 < power.held_out(small) < power.held_out(large)
    found = [float(power.power_line(one).split("difference of ")[1].split()[0]) for one in (large, small)]
    assert 0 < found[0] < found[1]
