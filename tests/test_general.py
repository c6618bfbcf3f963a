"""General data: files whole and broken, drawing, mixing, and what the step says of it."""

import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persllm import compose, plan
from persllm.chats import collect, files, hub
from persllm.chats.draw import Draw, quotas
from persllm.chats.turns import Turn
from persllm.errors import UserError
from persllm.records import GeneralItem
from persllm.schema import General
from persllm.steps import general
from persllm.training.data import general_share
from persllm.validate import problems


def alpaca(name, answer: str | None = "yes") -> dict[str, Any]:
    return {"instruction": name, "input": "", "output": answer}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def take(*sources, limit=48, scan: int | None = 100000, seed=0):
    """Return the questions that are drawn from sources of equal weight, and the counts of each."""
    mix = {str(source): 1.0 for source in sources}
    meant = collect.meaning(General(mix=mix, limit=limit, scan=scan, seed=seed))
    items, told = collect.collect(meant, lambda: None)
    assert len({item.id for item in items}) == len(items)
    return [item.question for item in items], told


# ---- drawing ----


def drawn(turns, limit, seed=0, taken=frozenset()):
    draw = Draw(limit, seed, taken)
    for place, turn in enumerate(turns):
        draw.add(turn, str(place))
    return draw, [turn.question for _, turn, _ in draw.drawn()]


def test_a_draw_is_the_same_in_any_order_and_holds_smaller_draws():
    turns = [Turn(f"q{n % 300}", "a") for n in range(450)]
    shuffled = random.Random(1).sample(turns, len(turns))
    one, questions = drawn(turns, 100)
    other, again = drawn(shuffled, 100)
    assert questions == again
    assert len(set(questions)) == 100
    assert one.duplicates == other.duplicates == sum(int(name[1:]) < 150 for name in questions)
    assert drawn(shuffled, 40)[1] == questions[:40]
    assert drawn(turns, 100, seed=1)[1] != questions
    everything, rest = drawn(turns, 1000)
    assert (len(rest), everything.duplicates) == (300, 150)


def test_a_draw_favours_no_place():
    """Of 2,000 rows in order, the drawn thousands' places are spread: each tenth gives 100 +- 4 deviations."""
    _, questions = drawn([Turn(f"q{n}", "a") for n in range(2000)], 1000)
    tenths = [sum(int(name[1:]) // 200 == tenth for name in questions) for tenth in range(10)]
    assert all(70 < count < 130 for count in tenths), tenths


def test_quotas_follow_the_weights():
    assert quotas([2, 1], 9) == [6, 3]
    assert quotas([1, 1, 1], 10) == [4, 3, 3]
    assert quotas([0.5], 7) == [7]


# ---- files ----


def test_every_kind_of_file_gives_the_same(tmp_path):
    rows = [alpaca(f"q{n}") for n in range(40)]
    lines = write_lines(tmp_path / "rows.jsonl", rows)
    (tmp_path / "rows.json").write_text("\ufeff" + json.dumps(rows, indent=1), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(4):
        pq.write_table(pa.Table.from_pylist(rows[number * 10 : number * 10 + 10]), shards / f"part-{number}.parquet")
    (shards / "info.json").write_text("{\n}")
    expected, _ = take(lines, limit=15)
    assert len(expected) == 15
    for source in ("rows.json", "rows.parquet", "shards"):
        assert take(tmp_path / source, limit=15)[0] == expected


def test_an_array_is_read_in_chunks(tmp_path, monkeypatch):
    """Whatever the chunks cut: an escape, a letter of two bytes, a number, the blanks between elements."""
    rows = [{"instruction": f'q{n} "\u00e9\\', "n": n * 1.5, "output": "a\nb"} for n in range(20)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    for size in (7, 50, 1 << 20):
        monkeypatch.setattr(files, "CHUNK", size)
        found = list(files.rows(path))
        assert [row for _, row in found] == rows
        assert [place for place, _ in found] == [f"{path}:{2 + 5 * n}" for n in range(20)]


def test_a_bare_number_is_not_cut_by_a_chunk(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_text(" [123456, 7 ,\n89]\n\n")
    for size in (2, 3, 5):
        monkeypatch.setattr(files, "CHUNK", size)
        assert [row for _, row in files.rows(tmp_path / "x.json")] == [123456, 7, 89]


def test_suffixes_in_capitals_are_the_same_files(tmp_path):
    write_lines(tmp_path / "a.JSONL", [alpaca("q0")])
    write_lines(tmp_path / "b.jsonl", [alpaca("q1")])
    assert sorted(take(tmp_path)[0]) == ["q0", "q1"]


def test_no_more_is_read_than_scan_says(tmp_path):
    """The line after the last that is wanted is broken, and nobody sees it."""
    path = write_lines(tmp_path / "rows.jsonl", [alpaca(f"q{n}") for n in range(30)])
    path.write_text(path.read_text() + '{"instruction": \n')
    questions, (told,) = take(path, limit=50, scan=30)
    assert sorted(questions) == sorted(f"q{n}" for n in range(30))
    assert (told["rows"], told["asked"], told["items"], told["stopped_by_scan"]) == (30, 50, 30, True)
    assert take(path, scan=29)[1][0]["stopped_by_scan"]
    whole = write_lines(tmp_path / "whole.jsonl", [alpaca(f"q{n}") for n in range(30)])
    (told,) = take(whole, limit=50, scan=30)[1]
    assert not told["stopped_by_scan"]
    assert "general.scan" not in collect.sentence(told)
    with pytest.raises(UserError, match=r"rows\.jsonl:31: not valid JSON \(Expecting value at column 1\)"):
        take(path, scan=None)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.jsonl", b"", r"x\.jsonl: the file is empty; expected rows with messages"),
        ("x.jsonl", b"\n \n", r"x\.jsonl: none of its 0 rows can be used; expected messages"),
        ("x.json", b"[]", r"x\.json: none of its 0 rows can be used"),
        ("x.jsonl", b'{"instruction": "caf\xe9"}', r"x\.jsonl:1: not UTF-8 text"),
        ("x.json", b'[\n{"a": 1},\n{"a": }]', r"x\.json:3: not valid JSON \(Expecting value\); mend this element"),
        ("x.json", b'[\n{"a": 1},\n', r"x\.json:3: not valid JSON"),
        ("x.json", b'[\n{"a": 1},\n]', r"x\.json:3: not valid JSON"),
        ("x.json", b'[\n{"a": 1},\n' + b"7" * 5000 + b"]", r"x\.json:3: a number of more than 4300 digits; mend this"),
        ("x.json", b"[\n" * 9 + b"[" * 200000, r"x\.json:2: JSON nested too deeply; mend this element of the list"),
        ("x.jsonl", b'\n{"a": ' + b"[" * 200000, r"x\.jsonl:2: JSON nested too deeply; mend or remove the line"),
        ("x.json", b'[{"a": 1},,\n{"a": 1}]', r"x\.json:1: not valid JSON"),
        ("x.json", b'[\n{"a": 1}\n{"a": 2}]', r"x\.json:3: no comma after an element of the list, nor its end"),
        ("x.json", b'[\n{"a": 1}\n', r"x\.json:3: no comma after an element of the list, nor its end"),
        ("x.json", b'[{"a": 1}]\n[{"a": 2}]\n', r"x\.json:2: the list ends before this; expected one list in the file"),
        ("x.jsonl", b'[]\n{"instruction": "q", "output": "a"}\n', r"x\.jsonl:2: the list ends before this"),
        ("x.json", b'{\n"a": 1\n}\n', r"x\.json:1: not valid JSON"),
        ("x.parquet", b"PAR1 no", r"x\.parquet: not readable as Parquet"),
        ("x.jsonl", b'{"text": "x"}\n7\n', r"\(not_an_object 1, unknown_columns 1\); found the columns text; expected"),
        ("x.jsonl", b'{"messages": []}\n', r"none of its 1 rows can be used \(no_turns 1\); expected messages"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_its_line(tmp_path, name, data, told):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=told):
        take(tmp_path / name)


def test_parquet_without_known_columns_lists_them(tmp_path):
    pq.write_table(pa.table({"prompt": ["q"], "input": ["x"]}), tmp_path / "x.parquet")
    expected = r"found the columns prompt, input; expected messages .*ShareGPT.*Alpaca"
    with pytest.raises(UserError, match=expected):
        take(tmp_path / "x.parquet")


def test_a_source_that_changed_after_the_plan_is_refused(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", [alpaca("q")])
    meant = collect.meaning(General(source=str(path)))
    write_lines(path, [alpaca("r")])
    with pytest.raises(UserError, match="changed after this study was planned; run the same command again"):
        collect.collect(meant, lambda: None)


def test_a_file_is_one_source_however_it_is_written(tmp_path, monkeypatch):
    write_lines(tmp_path / "x.jsonl", [alpaca("q")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "y").mkdir()
    one = collect.meaning(General(source="x.jsonl"))
    assert collect.meaning(General(source="./x.jsonl")) == collect.meaning(General(source="y/../x.jsonl")) == one
    assert collect.meaning(General(source="~/x.jsonl")) == collect.meaning(General(source=str(tmp_path / "x.jsonl")))
    assert [item.question for item in collect.collect(collect.meaning(General(source="~/x.jsonl")), lambda: None)[0]]


def test_sources_that_are_none(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for source, told in (
        (tmp_path / "none.jsonl", "no such file or folder; expected self"),
        (tmp_path / "notes.txt", r"expected a \.jsonl, \.json, \.parquet file, or a folder"),
        (tmp_path / "empty", "file in this folder"),
        ("org/name/file", "no such file or folder"),
    ):
        with pytest.raises(UserError, match=rf"general\.source=.*{told}"):
            collect.meaning(General(source=str(source)))


# ---- the hub ----


def test_a_hub_id_needs_the_hub():
    """Offline it is one sentence, with no wait; unpinned, the plan says so. Its split and revision are its meaning."""
    meant = collect.meaning(General(source="org/name"))
    assert meant["sources"] == [{"source": "org/name", "weight": 1.0, "split": "train", "revision": None}]
    (note,) = collect.notes(meant)
    assert "org/name is not pinned: write org/name@COMMIT" in note
    assert not collect.notes(collect.meaning(General(source="org/name", revision="abc")))
    with pytest.raises(UserError, match="org/name: HF_HUB_OFFLINE is set, so the hub is not asked") as told:
        collect.collect(meant, lambda: None)
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        next(hub.rows("org/name", "abc", "train"))


def test_each_hub_id_of_a_mix_has_its_own_commit(tmp_path):
    """It means the same as general.revision does for one; that key cannot pin two, nor one that is pinned."""
    file = write_lines(tmp_path / "rows.jsonl", [alpaca("q")])
    (config,) = compose.resolve([f"general.mix={{org/one@abc: 1, org/two@v1.0: 2, {file}: 1}}"]).cells[:1]
    meant = collect.meaning(config.config.general)
    assert [(one["source"], one.get("revision")) for one in meant["sources"]] == [
        ("org/one", "abc"), ("org/two", "v1.0"), (str(file), None),
    ]  # fmt: skip
    assert not collect.notes(meant)
    pinned = General(source="org/one", revision="abc")
    assert collect.meaning(General(source="org/one@abc")) == collect.meaning(pinned)
    assert collect.meaning(General(mix={"org/one": 1, str(file): 1}, revision="abc"))["sources"][0]["revision"] == "abc"
    for mix in ({"org/one": 1.0, "org/two": 1.0}, {"org/one@abc": 1.0}):
        with pytest.raises(
            UserError, match=r"general\.revision=x cannot stand for org/one.* in general\.mix, like ORG"
        ):
            collect.meaning(General(mix=mix, revision="x"))


def test_a_data_set_is_streamed(tmp_path, monkeypatch):
    """Through ``datasets`` itself, which takes a folder for a hub id; a wrong split is one sentence."""
    (tmp_path / "data").mkdir()
    write_lines(tmp_path / "data" / "train-0.jsonl", [alpaca(f"q{n}") for n in range(5)])
    rows = hub.rows(str(tmp_path), "abc", "train")
    assert next(rows) == (f"{tmp_path}:1", alpaca("q0"))
    assert [place for place, _ in rows] == [f"{tmp_path}:{n}" for n in range(2, 6)]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=r"not readable from the hub \(Bad split: test\. Available splits"):
        next(hub.rows(str(tmp_path), "abc", "test"))


# ---- mixing ----


def test_sources_are_mixed_by_weight_and_share_no_item(tmp_path):
    one = write_lines(tmp_path / "one.jsonl", [alpaca(f"q{n}") for n in range(30)])
    two = write_lines(tmp_path / "two.jsonl", [alpaca(f"q{n}") for n in range(20, 60)])
    meant = collect.meaning(General(mix={str(one): 3, str(two): 1}, limit=40))
    items, told = collect.collect(meant, lambda: None)
    assert [(t["asked"], t["items"]) for t in told] == [(30, 30), (10, 10)]
    assert [item.source.split(":")[0] for item in items] == [str(one)] * 30 + [str(two)] * 10
    assert {item.question for item in items[30:]} <= {f"q{n}" for n in range(30, 60)}
    assert told[1]["duplicates"] == 10
    short = take(one, two, limit=100)[1]
    assert [(t["asked"], t["items"]) for t in short] == [(50, 30), (50, 30)]
    assert "30 items drawn from 30 rows, where 50 were asked for" in collect.sentence(short[0])


def test_what_the_mix_may_not_say():
    config = compose.resolve(["model=hf", "model.path=none/tiny"]).cells[0].config
    config.general = General(source="a.jsonl", mix={"self": 1, "b.jsonl": 0}, ratio=0, scan=0)
    told = [text for text in problems(config) if text.startswith("general.")]
    assert len(told) == 5
    assert "general.mix gives b.jsonl the weight 0; expected more than 0" in told
    assert "general.ratio is 0; expected more than 0" in told


def test_a_ratio_takes_its_share_and_never_repeats():
    items = [GeneralItem(id=f"general-{n}", question="q", response="a", source="s") for n in range(50)]
    assert general_share(items, None, 10) == (items, 50)
    assert general_share(items, 9.0, 10) == (items, 90)
    some, asked = general_share(items, 2.3, 10)
    assert (len(some), asked) == (23, 23)
    assert some == [item for item in items if item in some]
    assert {item.id for item in general_share(items, 1.0, 10)[0]} < {item.id for item in some}


# ---- the step and the plan ----


def run(lab, folder, *words):
    """Run the step general; return its items and what it wrote of them."""
    ctx = lab.context(lab.cell("persllm", *words).train[0].inputs["general"], folder)
    general.run(ctx)
    told = json.loads((ctx.out / "general.json").read_text())
    assert json.loads((ctx.directory / "metrics.jsonl").read_text()) == told
    log = ctx.directory / "log.txt"
    return general.read(ctx.out), told, log.read_text() if log.exists() else ""


@pytest.mark.pipeline
def test_the_step_counts_what_it_leaves_out(lab, tmp_path):
    rows = [alpaca(f"q{n}") for n in range(5)]
    rows += [alpaca("q1"), alpaca("unanswered", None), {"text": "x"}, {"text": "y"}]
    turns = (("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"))
    rows.append({"messages": [{"role": who, "content": said} for who, said in turns]})
    file = write_lines(tmp_path / "rows.jsonl", rows)
    items, told, log = run(lab, tmp_path / "general", f"general.source={file}", "general.limit=20")
    assert {item.question for item in items} == {"q0", "q1", "q2", "q3", "q4", "q"}
    assert {item.source for item in items if item.question == "q3"} == {f"{file}:4"}
    (source,) = told.pop("sources")
    assert told == {"asked": 20, "items": 6}
    assert source["skipped"] == {"no_answer": 1, "unknown_columns": 2}
    assert (source["rows"], source["duplicates"]) == (10, 1)
    assert (source["system_messages_left_out"], source["later_turns_left_out"]) == (1, 1)
    assert "6 items drawn from 10 rows, where 20 were asked for" in log
    assert "skipped: no_answer 1, unknown_columns 2" in log


@pytest.mark.pipeline
def test_the_base_models_own_answers(lab, tmp_path):
    items, told, _ = run(lab, tmp_path / "general", "general.limit=4", "general.max_new_tokens=24")
    assert told["asked"] == 4
    assert len(items) + told["dropped_unfinished"] == 4
    assert all(isinstance(one, GeneralItem) and one.response for one in items)


@pytest.mark.pipeline
def test_a_ratio_trains_anew_and_loads_nothing_anew(lab, tmp_path):
    """SFT mixes in as many as asked, says where there are too few, and the plan expects as many."""
    words = ["method.tune.repeat=1", "method.tune.materials=false", "method.tune.reanswers=false"]
    file = write_lines(tmp_path / "rows.jsonl", [alpaca(f"q{n}") for n in range(60)])
    words += ["method.tune.analysis=false", f"general.source={file}", "general.limit=60"]
    from persllm.training.setup import prepare

    counts, ids = {}, set()
    for ratio in ("null", "0.2", "9"):
        step = lab.cell("persllm", *words, f"general.ratio={ratio}").train[0]
        ids.add((step.inputs["general"].id, step.fingerprint))
        ctx = lab.context(step, tmp_path / ratio)
        made = prepare(ctx, str(lab.model), rounded=False)
        log = ctx.directory / "log.txt"
        counts[ratio] = len(made.train), ctx.cost, log.read_text() if log.exists() else ""
    assert len({name for name, _ in ids}) == 1
    assert len({train for _, train in ids}) == 3
    persona = counts["null"][0] - 60
    share = round(persona / 5)
    assert counts["null"][1:] == ({}, "")
    assert counts["0.2"][:2] == (persona + share, {"general_items": share, "general_items_asked": share})
    assert counts["9"][:2] == (persona + 60, {"general_items": 60, "general_items_asked": 9 * persona})
    assert "none is repeated" in counts["9"][2]
    assert "none is repeated" not in counts["0.2"][2]


def test_the_plan_knows_ratio_mix_and_model(small, tmp_path):
    one = write_lines(tmp_path / "one.jsonl", [alpaca("q")])
    words = [*(w for w in small.words if not w.startswith("method=")), "method=persllm", "study.baseline=persllm"]

    def build(*more, mix=None):
        resolved = compose.resolve([*words, *more])
        for cell in resolved.cells:
            cell.config.general.mix = mix or {}
        made = plan.build(resolved)
        return made, next(step for step in made.steps if step.name == "general")

    _, first = build(f"general.source={one}")
    assert "model" not in first.config
    assert build(f"general.source={one}", "model.max_length=700", "general.ratio=3")[1].id == first.id
    assert build(f"general.source={one}", "general.seed=1")[1].id != first.id
    _, mixed = build(mix={str(one): 2.0, "org/name": 1.0})
    assert mixed.label == "mix"
    assert [source["weight"] for source in mixed.config["general"]["sources"]] == [2, 1]
    made, _ = build("general.source=org/name")
    assert len([note for note in made.resolved.notes if "not pinned" in note]) == 1
    units = []
    for ratio in ("null", "0.5", "900"):
        steps = build("general.limit=30", f"general.ratio={ratio}")[0].steps
        units.append(next(step.local["work"] for step in steps if step.name == "train"))
    persona = units[0] - 30
    assert units[1] == pytest.approx(1.5 * persona, abs=1)
    assert units[2] == units[0]
