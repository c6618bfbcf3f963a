"""The compare and report steps over an invented study, run by the real engine in real step directories."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from persllm import comparison, records, reporting, statistics, tables
from persllm.errors import UserError
from persllm.execute import Outcome, context_for, run_steps
from persllm.nodes import Step, make_step
from persllm.records import Generation, Item, Score
from persllm.steps import compare
from persllm.steps import report as report_step

HOSTILE = '</script><img src=x onerror=alert(1)> <script>alert(2)</script> "quoted" & ]]> <!-- \u2028 `code`'
ARMS = {"prompt_name": -2.0, "prompt_profile": -1.9, "sft": -1.5, "persllm": -1.3}
TUNED = ("sft", "persllm")
BINARY = ("who_accuracy", "false_premise_acceptance")
OFF = {"mode": "disabled"}


def publish(step: Step, outputs: Path, files: dict[str, list[Any]], run: dict[str, Any]) -> None:
    """Make a finished step directory with the given artifacts."""
    directory = step.directory(outputs)
    lease = directory.claim(step.meaning(), step.input_record())
    assert lease is not None
    made = directory.work / "artifacts"
    made.mkdir(parents=True)
    for name, rows in files.items():
        records.write(made / name, rows)
    lease.publish(made, run)


def item(persona: str, number: int, text: str) -> Item:
    pattern = records.PATTERNS[number % 4]
    return Item(
        id=f"i{number:03d}",
        persona=persona,
        stage=("early", "late")[number % 2],
        pattern=pattern,
        material_id=f"{persona}-knowledge-{number // 2:03d}",
        premise_pair=None,
        question=f"Question {number} to {persona}? {text}",
        analysis=f"Thinking about {number}. {text}",
        response=f"Gold answer {number}. {text}",
        annotator="recorded",
    )


def scores_of(items: list[Item], arm: str, seed: int, level: float, dice: random.Random) -> list[Score]:
    rows = []
    for one in items:
        values: dict[str, float | None] = {
            "gold_log_likelihood": level + dice.gauss(0, 0.2),
            "chrf": 40 + 8 * level + dice.gauss(0, 4),
            "who_accuracy": float(dice.random() < 0.9 + level / 5),
        }
        if one.pattern == "false_premise":
            values["false_premise_acceptance"] = float(dice.random() < -level / 3)
        same = {"item_id": one.id, "arm": arm, "seed": seed, "persona": one.persona, "stage": one.stage}
        rows += [Score(**same, cluster=one.material_id, metric=m, value=v) for m, v in values.items()]
    return rows


def reply(one: Item, arm: str, seed: int, response: str | None) -> Generation:
    return Generation(
        item_id=one.id,
        arm=arm,
        seed=seed,
        persona=one.persona,
        stage=one.stage,
        prompt_tokens=100 + len(arm),
        text=response or "broken",
        analysis=None if arm.startswith("prompt") else f"In character. {response}",
        response=response,
        finish_reason="stop" if response else "format",
        tokens=30,
        seconds=0.25,
    )


def run_record(cost: bool, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "host": "somewhere",
        "versions": {"torch": "2.13", "numpy": "2.4", "peft": None},
        "git": {"commit": "a" * 40, "dirty": True},
        "command": ["run", "study=invented"],
        "started": "2025-01-01T00:00:00Z",
        "seconds": seconds,
        "restarts": 0,
        "peak_memory_bytes": 900_000_000,
    }
    if cost:
        found["cost"] = {"train_seconds": 60.0, "train_tokens": 12345, "trainable_parameters": 4_000_000}
    return found


def invent(
    outputs: Path,
    count: int = 24,
    personas: tuple[str, ...] = ("scrooge", "ottoline"),
    arms: dict[str, float] = ARMS,
    tuned: tuple[str, ...] = TUNED,
    seeds: tuple[int, ...] = (0,),
    text: str = "",
    missing: tuple[str, ...] = (),
    shuffle: int | None = None,
    break_reply: bool = True,
    score: Any = scores_of,
) -> tuple[Step, Step]:
    """Make the finished steps of a study; return its compare and report steps, not run yet."""
    cells, inputs = [], {}
    for persona in personas:
        split = make_step("split", persona, {"test": 0.25})
        publish(split, outputs, {}, run_record(False, 1.0))
        items = [item(persona, n, text) for n in range(count)]
        for arm, level in arms.items():
            for seed in seeds:
                dice = random.Random(f"{persona}{arm}{seed}")
                train = []
                for objective in ("sft", "dpo") if arm in tuned else ():
                    step = make_step(
                        "train",
                        f"{persona}-{arm}-{objective}-s{seed}",
                        {"objective": objective},
                        {"split": split} | {s.config["objective"]: s for s in train},
                    )
                    steps = range(1, 31)
                    curve = [
                        {"step": n, "tokens": 500 * n, "loss": 2 / n**0.4 + dice.gauss(0, 0.05), "val_loss": None}
                        | ({"val_loss": 2 / n**0.4 + 0.2} if n % 5 == 0 else {})
                        for n in steps
                    ]
                    publish(step, outputs, {"curves.jsonl": curve}, run_record(True, 70.0))
                    train.append(step)
                links = {"split": split} | ({"train": train[-1]} if train else {})
                generate = make_step("generate", f"{persona}-{arm}-s{seed}", {"arm": arm, "seed": seed}, links)
                replies = [reply(one, arm, seed, f"Reply {one.id} by {arm}. {text}") for one in items]
                if arm == "persllm" and break_reply:
                    replies[3] = reply(items[3], arm, seed, None)
                rows = score(items, arm, seed, level, dice)
                if shuffle is not None:
                    random.Random(shuffle).shuffle(rows)
                    random.Random(shuffle).shuffle(replies)
                publish(generate, outputs, {"generations.jsonl": replies}, run_record(False, 9.0))
                evaluate = make_step("evaluate", generate.label, {"metrics": ["all"]}, {"generate": generate})
                publish(evaluate, outputs, {"scores.jsonl": rows, "items.jsonl": items}, run_record(False, 4.0))
                inputs |= {step.id: step for step in (evaluate, generate, *train)}
                cells.append(
                    {
                        "arm": arm,
                        "persona": persona,
                        "seed": seed,
                        "tuned": arm in tuned,
                        "baseline": "prompt_profile",
                        "evaluate": evaluate.id,
                        "scores": {},
                        "steer": [],
                        "generate": generate.id,
                        "train": [step.id for step in train],
                    }
                )
    order = list(arms)
    cells.sort(key=lambda cell: order.index(cell["arm"]))
    config = {
        "study": "invented",
        "cells": cells,
        "missing": list(missing),
        "primary": "gold_log_likelihood",
        "metrics": ["likelihood", "choice", "premise", "overlap", "robot"],
        "compare": {"resamples": 400, "confidence": 0.95, "power": 0.8, "seed": 0},
    }
    made = make_step("compare", "invented", config, inputs)
    return made, make_step("report", "invented", {"study": "invented"}, {"compare": made, **inputs})


def execute(outputs: Path, *steps: Step) -> None:
    outcome = Outcome()
    run_steps(list(steps), outputs, OFF, lambda *_: None, outcome)
    assert not outcome.failed, (steps[-1].directory(outputs).path / "log.txt").read_text()


def table(outputs: Path, step: Step, name: str) -> list[dict[str, str]]:
    with (step.directory(outputs).artifacts / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def settings(resamples: int = 200) -> comparison.Settings:
    return comparison.Settings(0.95, 0.8, statistics.Resampler(resamples, 0))


def read_all(outputs: Path, step: Step) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in step.directory(outputs).artifacts.iterdir()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Step, Step]:
    """A finished study whose every text is hostile."""
    outputs = tmp_path_factory.mktemp("outputs")
    made, report = invent(outputs, text=HOSTILE, missing=("sft ottoline s1",))
    execute(outputs, made)
    run = made.directory(outputs).path / "run.json"
    run.write_text(
        json.dumps(json.loads(run.read_text()) | {"command": ["run", "study=invented", "seed=0,1", "--json"]})
    )
    execute(outputs, report)
    return outputs, made, report


def html_of(study: tuple[Path, Step, Step]) -> str:
    return (study[2].directory(study[0]).artifacts / "report.html").read_text(encoding="utf-8")


def test_shuffled_rows_leave_every_file_unchanged(tmp_path: Path) -> None:
    plain, _ = invent(tmp_path / "a")
    shuffled, _ = invent(tmp_path / "b", shuffle=7)
    again, _ = invent(tmp_path / "c")
    for folder, step in (("a", plain), ("b", shuffled), ("c", again)):
        execute(tmp_path / folder, step)
    assert read_all(tmp_path / "a", plain) == read_all(tmp_path / "b", shuffled) == read_all(tmp_path / "c", again)


def test_table_has_every_arm_and_metric_in_order_with_its_cost(study: tuple[Path, Step, Step]) -> None:
    outputs, made, _ = study
    rows = table(outputs, made, "table.csv")
    metrics = ["gold_log_likelihood", "who_accuracy", "false_premise_acceptance", "chrf"]
    assert [(row["arm"], row["metric"]) for row in rows] == [(arm, metric) for arm in ARMS for metric in metrics]
    prompted, tuned = rows[0], rows[-1]
    assert (prompted["train_seconds"], prompted["train_tokens"]) == ("0", "0")
    assert (tuned["train_seconds"], tuned["train_tokens"]) == ("120", "24690")
    assert (tuned["prompt_tokens"], tuned["seconds_per_reply"], tuned["peak_memory_mb"]) == ("107", "0.25", "900")
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in rows)


def test_contrasts_are_each_arm_against_baseline_and_tuned_against_prompted(study: tuple[Path, Step, Step]) -> None:
    outputs, made, _ = study
    rows = [row for row in table(outputs, made, "contrasts.csv") if row["metric"] == "gold_log_likelihood"]
    assert [(row["arm"], row["baseline"]) for row in rows] == [
        ("prompt_name", "prompt_profile"),
        ("sft", "prompt_profile"),
        ("sft", "prompt_name"),
        ("persllm", "prompt_profile"),
        ("persllm", "prompt_name"),
    ]
    adjusted = statistics.holm([float(row["p"]) for row in rows])
    assert [float(row["p_adjusted"]) for row in rows] == pytest.approx(adjusted, rel=1e-5)
    assert all(row["n_items"] == "48" for row in rows)


def test_mirrored_contrasts_are_not_doubled() -> None:
    cells = [{"arm": a, "baseline": "sft", "tuned": a == "sft"} for a in ("sft", "prompt_name")]
    assert compare.contrast_pairs(cells) == [("prompt_name", "sft")]


def test_only_a_ladder_contrasts_a_tuned_arm_with_the_one_before_it() -> None:
    cells = [{"arm": a, "baseline": "p", "tuned": a != "p"} for a in ("p", "sft", "persllm")]
    plain = [("sft", "p"), ("persllm", "p")]
    assert compare.contrast_pairs(cells) == plain
    assert compare.contrast_pairs(cells, ladder=True) == [*plain, ("persllm", "sft")]


def test_a_baseline_that_is_missing_is_contrasted_with_nothing() -> None:
    cells = [{"arm": a, "baseline": "lost", "tuned": a == "sft"} for a in ("p", "sft")]
    assert compare.contrast_pairs(cells) == [("sft", "p")]


def test_a_question_that_all_personas_meet_is_one_cluster(tmp_path: Path) -> None:
    cells, inputs = [], {}
    for persona in ("a", "b"):
        step = f"evaluate/{persona}"
        inputs[step] = tmp_path / persona
        inputs[step].mkdir()
        common = {"item_id": "q1", "arm": "x", "seed": 0, "persona": persona, "stage": "late", "cluster": "q1"}
        rows = [Score(**common, metric=metric, value=1.0) for metric in ("general_accuracy", "moment_accuracy")]
        records.write(inputs[step] / "scores.jsonl", rows)
        cells.append({"arm": "x", "persona": persona, "seed": 0, "evaluate": step, "scores": {}})
    clusters = comparison.load_scores(cells, inputs).clusters
    assert set(clusters["general_accuracy"].values()) == {"q1"}
    assert set(clusters["moment_accuracy"].values()) == {"a/q1", "b/q1"}


def test_missing_values_are_counted_and_cells_listed(tmp_path: Path) -> None:
    def score(items: list[Item], arm: str, seed: int, level: float, dice: random.Random) -> list[Score]:
        rows = scores_of(items, arm, seed, level, dice)
        if arm == "sft":
            rows[0] = Score(**{**rows[0].__dict__, "value": None})
        return rows

    made, _ = invent(tmp_path, personas=("scrooge",), seeds=(0, 1), missing=("sft ottoline s0",), score=score)
    execute(tmp_path, made)
    row = next(
        r for r in table(tmp_path, made, "table.csv") if (r["arm"], r["metric"]) == ("sft", "gold_log_likelihood")
    )
    assert (row["n"], row["missing"]) == ("23", "2")
    contrast = next(r for r in table(tmp_path, made, "contrasts.csv") if r["arm"] == "sft")
    assert contrast["n_items"] == "23"
    missing = json.loads((made.directory(tmp_path).artifacts / "missing.json").read_text())
    assert missing["cells"] == ["sft ottoline s0"]
    assert [(m["seed"], m["missing"]) for m in missing["values"]] == [(0, 1), (1, 1)]


def contrast(arm, other, clusters):
    return comparison.contrast_row(*(comparison.Column(side, clusters, settings()) for side in (arm, other)))


def test_contrast_pairs_the_items_that_both_have() -> None:
    arm = {("a", "1"): {0: 1.0}, ("a", "2"): {0: 5.0}, ("a", "3"): {0: float("nan")}, ("b", "1"): {0: 3.0}}
    other = {("a", "1"): {0: 0.5}, ("a", "3"): {0: 9.0}, ("b", "1"): {0: 1.0, 1: 2.0}, ("b", "2"): {0: 7.0}}
    clusters = {key: f"{key[0]}/{key[1]}" for key in (*arm, *other)}
    row = contrast(arm, other, clusters)
    assert row["n_items"] == 2
    assert row["difference"] == pytest.approx(((1.0 - 0.5) + (3.0 - 1.5)) / 2)


def test_seeds_are_averaged_within_an_item_first() -> None:
    series = {("a", "1"): {0: 1.0, 1: 3.0}, ("a", "2"): {0: 10.0, 1: float("nan")}}
    clusters = {("a", "1"): "x", ("a", "2"): "y"}
    row = comparison.arm_row(comparison.Column(series, clusters, settings()))
    assert (row["mean"], row["n"], row["missing"]) == (6.0, 2, 1)


def test_arms_without_common_items_have_blank_contrasts() -> None:
    clusters = {("a", "1"): "x", ("a", "2"): "y"}
    row = contrast({("a", "1"): {0: 1.0}}, {("a", "2"): {0: 1.0}}, clusters)
    assert row["n_items"] == 0
    assert [tables.number(row[key]) for key in ("difference", "low", "high", "p", "detectable")] == [""] * 5


def test_unrecorded_cost_is_blank_not_zero(tmp_path: Path) -> None:
    made, report = invent(tmp_path, personas=("scrooge",))
    for path in tmp_path.glob("train/*sft-dpo*/run.json"):
        run = json.loads(path.read_text())
        del run["cost"]["train_tokens"], run["peak_memory_bytes"]
        path.write_text(json.dumps(run))
    for path in tmp_path.glob("train/*/artifacts/curves.jsonl"):
        path.unlink()
        (path.parents[1] / "manifest.json").write_text("{}")
    execute(tmp_path, made)
    row = next(r for r in table(tmp_path, made, "table.csv") if r["arm"] == "sft")
    assert (row["train_seconds"], row["train_tokens"], row["peak_memory_mb"]) == ("120", "", "")
    execute(tmp_path, report)
    assert "no curve was recorded" in html_of((tmp_path, made, report))


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.0, "0"), (1 / 3, "0.333333"), (1234567.8, "1234568"), (float("nan"), ""), (7, "7"), (1e-9, "1e-09")],
)
def test_numbers_have_one_text(value: float, text: str) -> None:
    assert tables.number(value) == text


def test_two_scores_of_one_item_are_refused(tmp_path: Path) -> None:
    def score(items: list[Item], arm: str, seed: int, level: float, dice: random.Random) -> list[Score]:
        return scores_of(items, arm, seed, level, dice)[:1] * 2

    made, _ = invent(tmp_path, personas=("scrooge",), score=score)
    with pytest.raises(UserError, match=r"scores\.jsonl: item 'i000' has 'gold_log_likelihood' twice"):
        compare.run(context_for(made, tmp_path, OFF))


def test_primary_that_nothing_scored_is_refused(tmp_path: Path) -> None:
    made, _ = invent(tmp_path, personas=("scrooge",))
    made.config["primary"] = "gold_loglik"
    with pytest.raises(UserError, match=r"study\.primary=gold_loglik: nothing scored"):
        compare.run(context_for(made, tmp_path, OFF))


def test_hostile_text_stays_text(study: tuple[Path, Step, Step]) -> None:
    html = html_of(study)
    assert "onerror=alert(1)" in html
    assert "<img" not in html
    assert html.count("<script") == html.count("</script>") == 2
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert block is not None
    assert not set("<>&\u2028") & set(block.group(1))
    data = json.loads(block.group(1))
    assert all(HOSTILE in reply["response"] for reply in data["items"][0]["replies"])
    assert "innerHTML" not in html
    assert "insertAdjacent" not in html


def test_page_refers_to_nothing_outside(study: tuple[Path, Step, Step]) -> None:
    html = html_of(study)
    for outside in ("http://", "https://", "//cdn", "@import", "url(http", "<link", "<iframe"):
        assert outside not in html
    tags = [tag for tag in re.findall(r"<[a-z][^<>]*>", html) if "src=" in tag]
    assert tags == []
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', html))


def test_policy_names_the_hash_of_the_one_script(study: tuple[Path, Step, Step]) -> None:
    html = html_of(study)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert policy is not None
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    expected = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-" + digest + "'"
    assert policy.group(1) == expected
    assert not re.search(r"<[^<>]*\son\w+=", html.split('<script type="application/json"')[0])


def test_page_is_the_same_when_made_twice(study: tuple[Path, Step, Step]) -> None:
    outputs, _, report = study
    before = html_of(study)
    context = context_for(report, outputs, OFF)
    context.out.mkdir(parents=True)
    report_step.run(context)
    assert (context.out / "report.html").read_text(encoding="utf-8") == before


def test_page_tells_the_answer_the_missing_and_where_numbers_come_from(study: tuple[Path, Step, Step]) -> None:
    outputs, made, _ = study
    html = html_of(study)
    assert "The best tuned arm, <code>persllm</code>, beats all 2 prompted arms" in html
    assert "1 missing cell, not in any number below (arm, persona, seed): sft ottoline s1." in html
    assert "persllm run study=invented seed=0,1" in html
    for directory in outputs.glob("*/*"):
        if directory.parent.name != "report":
            assert f"{directory.parent.name}/{directory.name}" in html
    fingerprints = json.loads((made.directory(outputs).path / "inputs.json").read_text())
    assert all(entry["fingerprint"] in html for entry in fingerprints.values())


def test_markdown_lists_each_contrast(study: tuple[Path, Step, Step]) -> None:
    outputs, made, report = study
    text = (report.directory(outputs).artifacts / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Study invented\n\nOn Gold log-likelihood (nats per token, higher is better) the best arm")
    lines = text.split("## Contrasts")[1].split("\n")
    for row in table(outputs, made, "contrasts.csv"):
        start = f"| {reporting.title(row['metric'])} | {row['arm']} | {row['baseline']} | "
        (line,) = [line for line in lines if line.startswith(start)]
        assert f" {reporting.p_cell(float(row['p_adjusted']))} | {row['n_items']} |" in line
    assert "\n\n\n\n" not in text


def test_headline_is_honest_when_prompting_wins(tmp_path: Path) -> None:
    def score(items: list[Item], arm: str, seed: int, level: float, dice: random.Random) -> list[Score]:
        rows = [row for row in scores_of(items, arm, seed, level, dice) if row.metric == "gold_log_likelihood"]
        # Two items of one cluster differ by as much in opposite directions, so that no cluster tells the arms apart.
        wave = {"sft": 0.1, "prompt_rag": -0.1}.get(arm, 0.0)
        return [Score(**{**row.__dict__, "value": level + wave * (-1) ** i}) for i, row in enumerate(rows)]

    arms = {"prompt_profile": -1.0, "prompt_rag": -1.6, "sft": -1.6}
    made, report = invent(tmp_path, arms=arms, tuned=("sft",), score=score)
    execute(tmp_path, made, report)
    text = (report.directory(tmp_path).artifacts / "report.md").read_text(encoding="utf-8")
    assert "the best arm is `prompt_profile`" in text
    assert "The best tuned arm, `sft`, does not beat every prompted arm: it loses to `prompt_profile`;" in text
    assert "cannot be told apart from `prompt_rag`" in text
    assert "A prompted arm beats `sft` on Gold log-likelihood (`prompt_profile`)" in text


def test_study_of_prompted_arms_only_says_that_it_cannot_tell(tmp_path: Path) -> None:
    made, report = invent(tmp_path, arms={"prompt_profile": -1.0, "prompt_rag": -1.6}, tuned=())
    execute(tmp_path, made, report)
    text = html_of((tmp_path, made, report))
    assert "only one kind of arm" in text
    assert "No arm of this study is tuned." in text


def test_shared_steps_are_shown_under_each_cell(tmp_path: Path) -> None:
    """A greedy prompted arm makes one evaluate step for all seeds; every cell still has its own rows."""
    made, _ = invent(tmp_path, personas=("scrooge",), arms={"prompt_profile": -1.0, "prompt_rag": -1.6}, tuned=())
    cells = made.config["cells"]
    config = made.config | {"cells": [cell | {"seed": seed} for cell in cells for seed in (0, 1)]}
    again = make_step("compare", "invented", config, made.inputs)
    execute(tmp_path, made, again)
    one, two = (table(tmp_path, step, "contrasts.csv") for step in (made, again))
    assert [row["difference"] for row in one] == [row["difference"] for row in two]
    assert [row["low"] for row in one] == [row["low"] for row in two]
    page = make_step("report", "invented", {"study": "invented"}, {"compare": again, **made.inputs})
    execute(tmp_path, page)
    assert '"seeds":[0,1]' in html_of((tmp_path, again, page))


def test_estimates_stand_beside_measurements(tmp_path: Path) -> None:
    made, report = invent(tmp_path, personas=("scrooge",), arms={"prompt_profile": -1.9, "sft": -1.5}, tuned=("sft",))
    (path,) = tmp_path.glob("train/*sft-sft*/run.json")
    run = json.loads(path.read_text())
    run["cost"] |= {
        "memory_estimate_bytes": 4_400_000_000,
        "peak_device_bytes": 4_000_000_000,
        "device": "H100 <80GB>",
        "ranks": 8,
        "micro_batch": 4,
        "tokens_per_second": 12345.6,
    }
    path.write_text(json.dumps(run))
    config = path.with_name("config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"local": {"expected_seconds": 65.0}}))
    execute(tmp_path, made)
    execute(tmp_path, report)
    (page,) = tmp_path.glob("report/*/artifacts/report.html")
    (text,) = tmp_path.glob("report/*/artifacts/report.md")
    told = re.sub(r"<[^>]+>", "|", page.read_text().partition('id="training"')[2].partition("</section>")[0])
    cells = [cell for cell in told.split("|") if cell.strip()]
    wanted = ["8 × H100 &lt;80GB&gt;", "4", "4,400 MB", "4,000 MB", "1.10", "65 s", "70 s", "12,346"]
    place = cells.index(wanted[0])
    assert cells[place - 1].startswith("scrooge-sft-sft-s0-")
    assert cells[place : place + len(wanted)] == wanted
    rows = [line for line in text.read_text().splitlines() if line.startswith("| scrooge-sft-") and " MB" in line]
    assert [cell.strip() for cell in rows[0].split("|")[2:-1]][1:] == wanted[1:]
    # What an earlier version did not record is a dash.
    (other,) = (line for line in text.read_text().splitlines() if line.startswith("| scrooge-sft-dpo-"))
    assert other.count(reporting.DASH) == 7


def test_seeds_that_differ_are_tested_by_the_mixed_model_and_those_that_do_not_by_sign_flips() -> None:
    """Each trained model shifts all its items: the sign flip would call that an effect of the recipe."""
    dice = random.Random(3)
    keys = [("a", str(number)) for number in range(40)]
    clusters = {key: key[1] for key in keys}
    items = {key: dice.gauss(0, 0.3) for key in keys}
    shift = {seed: dice.gauss(0.8, 1) for seed in range(3)}
    trained = {key: {seed: items[key] + shift[seed] + dice.gauss(0, 0.1) for seed in range(3)} for key in keys}
    prompted = {key: dict.fromkeys(range(3), items[key]) for key in keys}
    row = contrast(trained, prompted, clusters)
    assert row["test"] == "mixed model"
    once = contrast({key: {0: of[0]} for key, of in trained.items()}, prompted, clusters)
    assert once["test"] == "sign flip"
    assert once["p"] < row["p"]
    assert row["low"] < row["difference"] < row["high"]
    assert row["high"] - row["low"] > once["high"] - once["low"]


def test_few_clusters_widen_the_interval() -> None:
    dice = random.Random(1)
    series = {("a", str(number)): {0: dice.gauss(0, 1)} for number in range(8)}
    column = comparison.Column(series, {key: key[1] for key in series}, settings(2000))
    row = comparison.arm_row(column)
    plain = statistics.bootstrap_interval(column.draws, column.clusters, column.settings.resampler, 0.95)
    assert row["low"] < plain[0]
    assert row["high"] > plain[1]
