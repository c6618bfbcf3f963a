"""A broken pack tells all that is wrong with it at once: one sentence for each fault, with file and line."""

import itertools
import json
import shutil

import pytest
from fakes import make_pack

from persllm import packs
from persllm.errors import UserError


def put(name, old, new):
    """Return a fault that replaces a text of a file."""

    def plant(root):
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return plant


def line(name, number, text):
    """Return a fault that replaces a line of a file; bytes are written as they are."""

    def plant(root):
        lines = (root / name).read_bytes().split(b"\n")
        lines[number - 1] = text if isinstance(text, bytes) else text.encode()
        (root / name).write_bytes(b"\n".join(lines))

    return plant


def row(name, number, **change):
    """Return a fault that changes fields of a row; ... removes one."""

    def plant(root):
        lines = (root / name).read_text().splitlines()
        made = json.loads(lines[number - 1]) | change
        lines[number - 1] = json.dumps({k: v for k, v in made.items() if v is not ...})
        (root / name).write_text("\n".join(lines) + "\n")

    return plant


def again(name, number):
    """Return a fault that repeats a line at the end."""

    def plant(root):
        lines = (root / name).read_text().splitlines()
        (root / name).write_text("\n".join([*lines, lines[number - 1]]) + "\n")

    return plant


def gone(name):
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


LABEL = "  early: {label: 'early in life'"
TRAITS = "openness: {level: high, reason: r}, conscientiousness: {level: low, reason: r}, extraversion: "
FAULTS = [
    (put("persona.yaml", "identity:", "identiy:"), "persona.yaml:2: unknown key 'identiy'; did you mean 'identity'?"),
    (
        put("persona.yaml", "profile: Abel keeps the light.", "profile: 1843"),
        "persona.yaml:3: 'profile' is 1843",
    ),
    (put("persona.yaml", LABEL, "  early: {label: ''"), "persona.yaml:5: stages.early: 'label' is missing or empty"),
    (
        put("persona.yaml", "'the late years'", "'the late years', timeline: [{1843: born}]"),
        "persona.yaml:6: stages.late: 'timeline[0]' should be a text; put it in quotes",
    ),
    (
        line("early/knowledge.txt", 3, "[log 9] abel EARLY knowledge  paragraph 1."),
        "early/knowledge.txt:3: this paragraph stands already at ",
    ),
    (line("early/speech.txt", 2, "[log 2 abel says."), "early/speech.txt:2: the source tag is malformed"),
    (line("late/knowledge.txt", 4, "abel early knowledge paragraph 4."), "late/knowledge.txt:4: this paragraph stands"),
    (line("late/speech.txt", 2, b"caf\xe9"), "late/speech.txt:2: not UTF-8 text"),
    (row("early/items.jsonl", 2, material="speech/9"), "early/items.jsonl:2: material speech/9 is no line of"),
    (row("early/items.jsonl", 3, premise_pair="early-x"), "early/items.jsonl:3: premise_pair 'early-x' is no twin"),
    (row("late/items.jsonl", 1, question=5), "late/items.jsonl:1: field 'question' should be str, found 5"),
    (row("late/items.jsonl", 2, response=" "), "late/items.jsonl:2: field 'response' is empty"),
    (
        row("late/items.jsonl", 4, analysis=..., analyss="x"),
        "late/items.jsonl:4: unknown field 'analyss'; did you mean 'analysis'?",
    ),
    (again("late/items.jsonl", 3), "late/items.jsonl:5: id 'late-f1' stands already at"),
    (row("early/reanswers.jsonl", 2, item="late-x"), "early/reanswers.jsonl:2: item 'late-x' is in no items.jsonl"),
    (line("late/reanswers.jsonl", 1, "{"), "late/reanswers.jsonl:1: not valid JSON"),
    (row("late/reanswers.jsonl", 2, item="late-k1"), "late/reanswers.jsonl:2: item 'late-k1' is this stage's own"),
]
ALONE = [
    (put("persona.yaml", "  early:", "  Early Days:"), "persona.yaml:5: stages.Early Days: a stage's name is"),
    (put("persona.yaml", "stages:\n", "stages: [\n"), "persona.yaml:6: not valid YAML"),
    (put("persona.yaml", "identity:", "name: Cain\nidentity:"), "persona.yaml:2: 'name' stands already at line 1"),
    (put("persona.yaml", LABEL, LABEL + ", begins: x"), "persona.yaml:5: stages.early: 'begins' is for packs with"),
    (put("persona.yaml", LABEL, LABEL + ", big_five: high"), "persona.yaml:5: stages.early.big_five: expected a"),
    (
        put("persona.yaml", LABEL, LABEL + ", big_five: {" + TRAITS + "{level: mid, reason: r}, agreeableness: "
            "{level: none, reason: r}, neuroticism: {level: none, reason: r}}"),
        "persona.yaml:5: stages.early.big_five.extraversion: level 'mid' is none of high, low, none",
    ),
    (put("persona.yaml", "  late:", "  erly: {label: l, summary: s}\n  late:"), "erly: no folder for stage"),
    (gone("late"), "late: no folder for stage 'late', which persona.yaml names"),
    (gone("late/knowledge.txt"), "late/knowledge.txt: no such file; expected knowledge paragraphs, one a line"),
    (line("late/knowledge.txt", 1, b"\xff\xfe"), "late/knowledge.txt:1: not UTF-8 text"),
    (lambda root: (root / "late" / "speech.txt").write_text("\n \n"), "late/speech.txt: the file is empty"),
    (gone("early/items.jsonl"), "early/items.jsonl: no such file; expected recorded items, one a line"),
    (line("early/items.jsonl", 1, "[1"), "early/items.jsonl:1: not valid JSON"),
    (line("early/items.jsonl", 1, "5"), "early/items.jsonl:1: expected a JSON object, found int"),
    (
        row("early/items.jsonl", 1, material=..., question=..., analysis=...),
        "early/items.jsonl:1: fields 'material', 'question', 'analysis' are missing",
    ),
    (row("early/items.jsonl", 1, premise_pair="early-f1"), "early/items.jsonl:1: field 'premise_pair' is for"),
    (row("early/items.jsonl", 4, pattern="false_premise"), "early/items.jsonl:3: premise_pair 'early-t1' is no twin"),
    (row("early/items.jsonl", 1, retrieved=["knowledge/1", "speech/7"]), "early/items.jsonl:1: material speech/7"),
    (again("early/reanswers.jsonl", 2), "early/reanswers.jsonl:5: item 'late-o1' is re-answered already at line 2"),
    (row("early/reanswers.jsonl", 1, item=["late-k1"]), "early/reanswers.jsonl:1: field 'item' should be str"),
]  # fmt: skip


def told(root):
    with pytest.raises(UserError) as caught:
        packs.load(root)
    return str(caught.value).split("\n")


@pytest.mark.parametrize(("plant", "expected"), FAULTS + ALONE, ids=[text[:50] for _, text in FAULTS + ALONE])
def test_one_fault_is_one_sentence(tmp_path, plant, expected):
    root = make_pack(tmp_path, "abel")
    packs.load(root)
    plant(root)
    lines = told(root)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{root}/{expected}")


def test_all_faults_at_once_in_the_order_of_files(tmp_path):
    """Of the 17 none hides another, and none has a second sentence in its train."""
    root = make_pack(tmp_path, "abel")
    for plant, _ in FAULTS:
        plant(root)
    lines = told(root)
    expected = [text for _, text in FAULTS]
    assert len(lines) == len(expected), "\n".join(lines)
    for text in expected:
        assert sum(line.startswith(f"{root}/{text}") for line in lines) == 1, text
    places = [line.removeprefix(f"{root}/").split(": ")[0].partition(":") for line in lines]
    assert [name for name, _, _ in places[:4]] == ["persona.yaml"] * 4
    for here, there in itertools.pairwise(places):
        assert here[0] != there[0] or int(here[2]) <= int(there[2])


def test_paragraphs_are_looked_at_although_the_card_is_no_yaml(tmp_path):
    root = make_pack(tmp_path, "abel")
    put("persona.yaml", "stages:\n", "stages: [\n")(root)
    line("early/speech.txt", 2, "[log 2 abel says.")(root)
    assert [text.split(": ")[0].rpartition("/")[2] for text in told(root)] == ["persona.yaml:6", "speech.txt:2"]
