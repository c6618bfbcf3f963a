"""Step judge on the tiny model's replies, before a server that judges, a real one, and a model in this process."""

import json
from pathlib import Path

import pytest
from arbiter import Arbiter, Honest, parts
from test_annotate_api import ENDPOINT, serve

from persllm import compose, plan, records
from persllm.annotators.answers import Answers
from persllm.annotators.api import Api
from persllm.annotators.budget import Purse
from persllm.annotators.inquiry import Inquiry
from persllm.annotators.local import Local
from persllm.execute import Outcome, run_steps
from persllm.judging.bench import Bench, Case, Duel, Riddle, Settled
from persllm.records import Generation, Item, Score
from persllm.store import read_json

pytestmark = pytest.mark.pipeline
FAST = ["judge.items=4", "judge.comparisons=6", "judge.certificate.items=8", "judge.attempts=2"]
OFF = {"mode": "disabled"}


@pytest.fixture
def own_lab(tiny, tmp_path):
    """A lab whose outputs may be spoiled."""
    from tiny import Lab

    return Lab(tmp_path, tiny)


def words(lab, url, *more):
    api = ["judge=api", "judge.model=m", f"judge.endpoint.base_url={url}", "judge.endpoint.retries=0"]
    return [*lab.words, "method=prompt_name,prompt_profile,prompt_none", *api, *FAST, *more]


def planned(lab, url, *more):
    return plan.build(compose.resolve(words(lab, url, *more)))


def lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_arms_are_scored_compared_and_the_judge_tried(own_lab):
    """Replies of one arm are made to be gold: it comes out first, and the files tell how that was found."""
    lab = own_lab
    with Arbiter(Honest()) as server:
        built = planned(lab, server.url, "judge.certificate.items=16")
        step = built.cells[0].judge
        assert {cell.judge.id for cell in built.cells if cell.cell.persona == "scrooge"} == {step.id}
        _spoil(lab, step, "prompt_profile", lambda row, gold: row | {"response": gold})
        out = lab.run(step)
    scores = records.read(Score, out / "scores.jsonl")
    assert {score.arm for score in scores} == {"prompt_name", "prompt_profile", "prompt_none"}
    assert {score.metric for score in scores} == {"judge_knowledge", "judge_attitude"}
    gold = [score.value for score in scores if score.arm == "prompt_profile"]
    assert gold == [5.0] * 8
    assert all(score.value == 0 for score in scores if score.arm != "prompt_profile")
    compared = lines(out / "comparisons.jsonl")
    assert len(compared) == 6
    for row in compared:
        expected = {row["one"]: 1.0, row["other"]: 0.0}.get("prompt_profile", 0.5)
        assert row["outcome"] == expected
        assert row["flipped"] is False
    figures = read_json(out / "figures.json")
    ability = {row["arm"]: row["value"] for row in figures if row["metric"] == "judge_ability"}
    assert ability["prompt_profile"] > max(ability["prompt_name"], ability["prompt_none"]) + 1
    right = {r["arm"]: r for r in figures if r["metric"] == "judge_knowledge_right_corrected"}
    assert right["prompt_profile"]["value"] > 0.9 > 0.1 > right["prompt_name"]["value"]
    assert right["prompt_profile"]["low"] < 1
    held = read_json(out / "certificate.json")
    assert held["prompts_sha256"].keys() == {"system", "knowledge", "attitude", "pair", "role"}
    assert held["judge"] == "api:m"
    assert held["arms"]["verdicts on arms' pairs that turn with the order"]["value"] == 0
    assert held["arms"]["agreement with itself on arms' replies"]["value"] == 1
    # Neither "m" nor the tiny model's folder tells a family.
    assert held["measures"]["of another family than the arms"]["value"] is None
    for row in lines(out / "verdicts.jsonl"):
        assert row["judge"] == "api:m"
        assert row["prompt_sha256"] in held["prompts_sha256"].values()
    # No arm is named to the judge.
    told = json.dumps([row["messages"] for row in server.asked])
    assert "prompt_" not in told
    # Each reply was scored three times over, each time as another request.
    replies = [row for row in lines(out / "verdicts.jsonl") if row["step"] == "reply"]
    assert {row["draw"] for row in replies} == {0, 1, 2}
    assert len(replies) == 3 * len(scores)


def _spoil(lab, step, arm, change):
    """Change an arm's replies in the lab's outputs: ``change`` takes a row and the recorded answer."""
    number = step.config["arms"].index(arm)
    for needed in step.inputs.values():
        lab.run(needed)
    folder = step.inputs[f"arm_{number}"].directory(lab.outputs).artifacts
    test = records.read(Item, step.inputs["split"].directory(lab.outputs).artifacts / "test.jsonl")
    gold = {item.id: item.response for item in test}
    made = [change(row, gold[row["item_id"]]) for row in lines(folder / "generations.jsonl")]
    records.write(folder / "generations.jsonl", [Generation(**row) for row in made])
    manifest = read_json(folder.parent / "manifest.json")
    manifest["generations.jsonl"]["bytes"] = (folder / "generations.jsonl").stat().st_size
    (folder.parent / "manifest.json").write_text(json.dumps(manifest))


def test_what_failed_is_missing_never_zero_and_counted(own_lab):
    """A reply that broke its format, and one whose scoring the server cannot do."""
    lab, honest = own_lab, Honest()
    with Arbiter(lambda row: 500 if "UNSPEAKABLE" in str(parts(row)) else honest(row)) as server:
        step = (
            planned(lab, server.url, "judge.items=8", "judge.comparisons=30", "judge.certificate.missing=0.5")
            .cells[0]
            .judge
        )
        place = {"next": 0}

        def change(row, gold):
            place["next"] += 1
            text = {1: None, 2: "UNSPEAKABLE words"}.get(place["next"] % 5, gold)
            return row | {"response": text}

        _spoil(lab, step, "prompt_profile", change)
        out = lab.run(step)
    judged = [row for row in lines(out / "judged.jsonl") if row["arm"] == "prompt_profile"]
    broken = [row for row in judged if row["reply"] is None or "UNSPEAKABLE" in row["reply"]]
    assert {row["reply"] for row in broken} == {None, "UNSPEAKABLE words"}
    assert all(row["mean"] is None for row in broken)
    assert all(row["mean"] == 5 for row in judged if row not in broken)
    values = {score.item_id: score.value for score in records.read(Score, out / "scores.jsonl")
              if score.arm == "prompt_profile"}  # fmt: skip
    assert {item for item, value in values.items() if value is None} == {row["item_id"] for row in broken}
    notes = "\n".join(read_json(out / "notes.json"))
    assert f"{len(broken)} of {3 * len(judged)} replies have no score from the judge: missing, not zero" in notes
    lost = {row["item_id"] for row in broken}
    for row in lines(out / "comparisons.jsonl"):
        arms = {row["one"], row["other"]}
        assert (row["outcome"] is None) == ("prompt_profile" in arms and row["item_id"] in lost)


def test_another_threshold_asks_nothing_anew(own_lab):
    lab = own_lab
    with Arbiter(Honest()) as server:
        lab.run(planned(lab, server.url).cells[0].judge)
        count = len(server.asked)
        out = lab.run(planned(lab, server.url, "judge.certificate.agreement=1").cells[0].judge)
        assert len(server.asked) == count
    assert not read_json(out / "certificate.json")["held"]


def test_a_refused_key_is_told_with_the_judges_own_keys(own_lab):
    lab = own_lab
    with Arbiter(lambda _: 401) as server:
        step = planned(lab, server.url).cells[0].judge
        for needed in step.inputs.values():
            lab.run(needed)
        run_steps([step], lab.outputs, OFF, lambda *_: None, outcome := Outcome())
    told = outcome.failed[0].directory(lab.outputs).failure()
    assert told["class"] == "config"
    assert "refuses judge.model=m (401" in told["message"]


CASES = [Case(f"c{n}", kind, "What of it?", "It is so.", f"So {n}.") for n in range(2) for kind in ("knowledge",)]
DUELS = [Duel("d", "What of it?", "It is so.", "So.", "Not so.")]
RIDDLES = [Riddle("r", ["a miser", "a map-maker"], "What of it?", "Humbug.")]
CONFIG = {"temperature": 0.7, "repeats": 3, "attempts": 2}


def babble(asked, folder):
    """Ask a model that is no judge; return the bench."""
    settings = {"price_input": None, "price_output": None, "budget": None}
    inquiry = Inquiry(asked, Answers(folder, asked.identity), Purse(settings, "judge"), 16)
    bench = Bench(inquiry, CONFIG, [])
    assert bench.scores("reply", CASES) == {case.id: [None, None, None] for case in CASES}
    assert bench.duels("pair", DUELS) == {"d": Settled((None, None))}
    assert bench.roles(RIDDLES) == {"r": None}
    assert len(bench.verdicts) == 3 * len(CASES) + 2 + 1
    return bench


def test_a_server_of_transformers_with_a_model_that_babbles(tiny, tmp_path):
    """A real server: what comes of a real model that is no judge is missing, and nothing is made up."""
    pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn (the extra dev)")
    with (tmp_path / "log.txt").open("w") as log:
        process, url = serve(tiny, log)
        try:
            settings = ENDPOINT | {"base_url": url, "timeout_seconds": 60.0}
            bench = babble(Api(str(tiny), settings, "judge"), tmp_path / "answers")
        finally:
            process.terminate()
            process.wait(30)
    assert bench.inquiry.tokens[1] > 0


def test_a_local_model_that_babbles(tiny, tmp_path):
    bench = babble(Local(str(tiny), 4, tmp_path), tmp_path / "answers")
    assert {row["judge"] for row in bench.verdicts} == {f"local:{tiny}"}


def test_a_local_judge_that_the_arms_are_made_of_is_of_their_family(lab):
    for model, other in ((lab.model, False), ("none/other", True)):
        words = ["method=prompt_name", "judge=local", f"judge.model={model}"]
        step = plan.build(compose.resolve([*lab.words, *words])).cells[0].judge
        assert step.config["other_family"] is other


def test_more_is_expected_than_the_budget_bears(own_lab):
    lab = own_lab
    prices = ["judge.endpoint.price_input=1000", "judge.endpoint.price_output=1000", "judge.endpoint.budget=1"]
    with Arbiter(Honest()) as server:
        step = planned(lab, server.url, *prices).cells[0].judge
        for needed in step.inputs.values():
            lab.run(needed)
        run_steps([step], lab.outputs, OFF, lambda *_: None, outcome := Outcome())
        assert not server.asked
    told = outcome.failed[0].directory(lab.outputs).failure()["message"]
    assert told.startswith("judge.endpoint.budget is 1, but about ")
    assert told.endswith("or ask for less: judge.items, judge.comparisons")
