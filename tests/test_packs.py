"""The shipped packs hold what a study needs, and broken packs say where they are broken."""

import collections
import dataclasses
import json
import shutil

import pytest
from fakes import make_pack

from persllm import cards, packs
from persllm.errors import UserError
from persllm.identity import tree_sha256

SHIPPED = sorted(p.name for p in packs.SHIPPED.iterdir() if p.is_dir())
COUNTS = {"knowledge": 34, "opinion": 26, "false_premise": 20, "true_premise": 20}


def load(root):
    card = packs.load_card(root)
    materials = packs.load_materials(root, card)
    return card, materials, *packs.load_items(root, card, materials)


@pytest.fixture(params=SHIPPED)
def shipped(request):
    return load(packs.folder(request.param))


def test_there_are_two_packs():
    assert {"scrooge", "ottoline"} <= set(SHIPPED)


def test_materials(shipped):
    card, materials, _, _ = shipped
    assert len(card.stages) == 2
    count = collections.Counter((m.stage, m.kind) for m in materials)
    assert all(count[stage, "knowledge"] >= 40 for stage in card.stages)
    assert all(set(stage.big_five) in (set(), set(cards.BIG_FIVE)) for stage in card.stages.values())


def test_one_pack_at_most_is_sparse_in_speech():
    few = set()
    for name in SHIPPED:
        _, materials, _, _ = load(packs.folder(name))
        count = collections.Counter(m.stage for m in materials if m.kind == "speech")
        few |= {name} if min(count.values()) < 40 else set()
    assert len(few) <= 1


def test_items_and_twins(shipped):
    card, _, items, _ = shipped
    for stage in card.stages:
        own = [item for item in items if item.stage == stage]
        assert collections.Counter(item.pattern for item in own) == COUNTS
    by_id = {item.id: item for item in items}
    for item in items:
        assert (item.premise_pair is not None) == item.pattern.endswith("_premise")
        if item.premise_pair is not None:
            twin = by_id[item.premise_pair]
            assert {item.pattern, twin.pattern} == {"false_premise", "true_premise"}
            assert (twin.stage, twin.material_id) == (item.stage, item.material_id)


def test_each_stage_answers_every_item_of_the_other(shipped):
    card, _, items, reanswers = shipped
    assert {(r.item_id, r.stage) for r in reanswers} == {
        (item.id, stage) for item in items for stage in card.stages if stage != item.stage
    }
    assert len(reanswers) == len(items)


def test_texts_are_distinct(shipped):
    _, materials, items, _ = shipped
    assert len({m.text for m in materials}) == len(materials)
    assert len({item.question for item in items}) == len(items)
    assert len({item.response for item in items}) == len(items)


def edit(root, name, number, **change):
    lines = (root / name).read_text().splitlines()
    row = json.loads(lines[number - 1])
    row |= change
    lines[number - 1] = json.dumps({k: v for k, v in row.items() if v is not ...})
    (root / name).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "number", "change", "expected"),
    [
        ("early/items.jsonl", 1, {"material": "knowledge/9"}, "early/items.jsonl:1: material knowledge/9 is no line"),
        ("early/items.jsonl", 1, {"material": "opinion/1"}, "early/items.jsonl:1: material opinion/1 is no line"),
        ("early/items.jsonl", 2, {"id": "early-k1"}, "early/items.jsonl:2: id 'early-k1' stands already at"),
        (
            "early/items.jsonl",
            3,
            {"premise_pair": "early-o1"},
            "early/items.jsonl:3: premise_pair 'early-o1' is no twin",
        ),
        ("early/items.jsonl", 3, {"material": "knowledge/3"}, "is no twin"),
        ("late/items.jsonl", 4, {"pattern": "riddle"}, "late/items.jsonl:4: field 'pattern' is 'riddle'"),
        ("late/items.jsonl", 4, {"question": ...}, "late/items.jsonl:4: field 'question' is missing"),
        ("late/items.jsonl", 1, {"answer": "x"}, "late/items.jsonl:1: unknown field 'answer'"),
        ("late/reanswers.jsonl", 2, {"item": "early-x"}, "late/reanswers.jsonl:2: item 'early-x' is in no items.jsonl"),
        ("late/reanswers.jsonl", 2, {"item": "late-k1"}, "is this stage's own"),
        ("late/reanswers.jsonl", 1, {"response": 5}, "late/reanswers.jsonl:1: field 'response' should be str"),
    ],
)
def test_broken_row(tmp_path, name, number, change, expected):
    root = make_pack(tmp_path, "abel")
    edit(root, name, number, **change)
    with pytest.raises(UserError) as caught:
        load(root)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("identity: a lighthouse keeper\n", "", "'identity' is missing or empty"),
        ("identity:", "identiy:", "unknown key 'identiy'; did you mean 'identity'?"),
        ("label: 'early in life', ", "", "stages.early: 'label' is missing or empty"),
        ("  early:", "  Early Days:", "lower case letters"),
    ],
)
def test_broken_card(tmp_path, old, new, expected):
    root = make_pack(tmp_path, "abel")
    card = (root / "persona.yaml").read_text()
    assert old in card
    (root / "persona.yaml").write_text(card.replace(old, new))
    with pytest.raises(UserError) as caught:
        packs.load_card(root)
    assert str(root / "persona.yaml") in str(caught.value)
    assert expected in str(caught.value)


def test_sources_are_tags_or_places(tmp_path):
    root = make_pack(tmp_path, "abel")
    (root / "early" / "speech.txt").write_text("[diary, 3 May] I kept the light.\nNo tag here.\n")
    (root / "early" / "items.jsonl").write_text("")
    (root / "late" / "reanswers.jsonl").write_text("")
    _, materials, _, _ = load(root)
    told = [(m.text, m.source, m.order) for m in materials if (m.stage, m.kind) == ("early", "speech")]
    assert told == [("I kept the light.", "diary, 3 May", 1), ("No tag here.", "early/speech.txt:2", 2)]


def test_one_stage_of_two(tmp_path):
    root = make_pack(tmp_path, "abel")
    card = packs.load_card(root, ["late"])
    materials = packs.load_materials(root, card)
    items, reanswers = packs.load_items(root, card, materials)
    assert {item.stage for item in items} == {"late"}
    assert reanswers == []


LONG = """
source: {file: book.txt, form: novel, speaker: [Abel, Mr. Light], narrator: true}
"""
FIVE = "big_five: {" + ", ".join(f"{name}: {{level: none, reason: unseen}}" for name in cards.BIG_FIVE) + "}"


def long_pack(tmp_path, text=LONG):
    root = make_pack(tmp_path, "abel")
    for stage in ("early", "late"):
        shutil.rmtree(root / stage)
    card = (root / "persona.yaml").read_text()
    card = card.replace("'the late years'", f"'the late years', begins: Chapter 11, timeline: ['1843: wed'], {FIVE}")
    (root / "persona.yaml").write_text(card + text)
    (root / "book.txt").write_text("Chapter 1\n\nI was born.\n")
    return root


def test_a_card_with_all_that_is_optional_comes_back_from_its_mapping(tmp_path):
    root = long_pack(tmp_path)
    card = packs.load_card(root)
    assert card.source == cards.Source("book.txt", "novel", ["Abel", "Mr. Light"], narrator=True)
    assert (card.stages["early"].begins, card.stages["late"].begins) == ("", "Chapter 11")
    assert card.stages["late"].timeline == ["1843: wed"]
    assert card.stages["late"].big_five["openness"] == cards.Trait("none", "unseen")
    assert cards.from_row(json.loads(json.dumps(dataclasses.asdict(card)))) == card
    packs.check_source(root, card)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("book.txt", "bok.txt", "bok.txt: no such file; expected the novel that persona.yaml names as its source"),
        ("book.txt", "../book.txt", "persona.yaml:8: source: file '../book.txt' should be a .txt or .jsonl file"),
        ("form: novel", "form: novle", "persona.yaml:8: source: form 'novle' is none of"),
        ("speaker: [Abel, Mr. Light]", "speaker: Abel", "persona.yaml:8: source: 'speaker' should be a list of texts"),
        ("form: novel", "form: chat", "persona.yaml:8: source: 'narrator' is for novel and prose"),
        ("begins: Chapter 11, ", "", "persona.yaml:6: stages.late: 'begins' is missing or empty"),
        ("neuroticism: ", "neurotic: ", "persona.yaml:6: stages.late.big_five: unknown key 'neurotic'"),
    ],
)
def test_broken_long_text(tmp_path, old, new, expected):
    root = long_pack(tmp_path)
    card = (root / "persona.yaml").read_text()
    assert old in card
    (root / "persona.yaml").write_text(card.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        packs.check_source(root, packs.load_card(root))
    assert str(caught.value).startswith(f"{root}/{expected}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_chat_is_a_fault_before_any_step(tmp_path, text):
    root = long_pack(tmp_path)
    card = (root / "persona.yaml").read_text()
    (root / "persona.yaml").write_text(card.replace("form: novel", "form: chat").replace(", narrator: true", ""))
    (root / "book.txt").write_text(text)
    with pytest.raises(UserError, match=r"book\.txt: the file is empty; expected the chat that persona\.yaml names"):
        packs.check_source(root, packs.load_card(root))
    with pytest.raises(UserError, match=r"book\.txt: the file is empty"):
        packs.load(root, items=False)


def test_paragraphs_beside_a_long_text_are_not_passed_over(tmp_path):
    root = long_pack(tmp_path)
    (root / "early").mkdir()
    (root / "early" / "speech.txt").write_text("A line.\n")
    with pytest.raises(UserError, match=r"early/speech\.txt: this pack's materials come from book\.txt"):
        packs.load_materials(root, packs.load_card(root))


def test_the_identity_covers_long_text_and_reviews(tmp_path):
    root = long_pack(tmp_path)
    told = [tree_sha256(root, packs.FILES)]
    for name in ("book.txt", "late/reviews.jsonl"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("{}\n")
        told.append(tree_sha256(root, packs.FILES))
    assert len(set(told)) == 3


def test_what_was_retrieved_is_linked(tmp_path):
    root = make_pack(tmp_path, "abel")
    edit(root, "early/items.jsonl", 1, retrieved=["knowledge/1", "speech/2"])
    edit(root, "early/reanswers.jsonl", 1, retrieved=["speech/3"])
    _, _, items, reanswers = load(root)
    assert items[0].retrieved == ["abel-early-knowledge-001", "abel-early-speech-002"]
    assert items[1].retrieved == []
    assert next(r for r in reanswers if r.stage == "early").retrieved == ["abel-early-speech-003"]
