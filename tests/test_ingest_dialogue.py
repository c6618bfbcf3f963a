"""Interviews and chats become materials: who speaks, when, and clear words where a line is wrong."""

import json

import pytest
from test_ingest import LONG, pack, refused

from persllm.ingest import ingest, survey

INTERVIEW = """An evening in the salt house.

Q: Where were you born?
A: In the harbour.
At high water, they say.

Q: And then?
A: Then I learned to count.
"""


def test_an_interview(tmp_path):
    root, card = pack(tmp_path, INTERVIEW, {"form": "interview", "speaker": ["A"]}, begins=("", "Q: And then"))
    made = ingest(root, card)
    assert [m.text for m in made] == [
        "Q: Where were you born?\nA: In the harbour. At high water, they say.",
        "Q: And then?\nA: Then I learned to count.",
    ]
    assert [(m.stage, m.source) for m in made] == [("early", "lines 3-5"), ("late", "lines 7-8")]
    assert [(r.name, r.quotations) for r in survey(root, card).speakers] == [("A", 2), ("Q", 2)]


def test_no_line_of_an_interview_is_both_knowledge_and_speech(tmp_path):
    born = "HOST: Alice was born in the harbour and has kept the books of the salt house ever since then.\n"
    asked = "HOST: And is that true of you?\nALICE: As far as I have been told, it is.\n"
    talk = "HOST: And what do they say at the well?\nCARL: That is enough of questions, I should think.\n" * 2
    root, card = pack(
        tmp_path, born + asked + talk + born, {"form": "interview", "speaker": ["ALICE"]}, begins=("",), file="t.txt"
    )
    assert [(m.kind, m.source) for m in ingest(root, card)] == [("knowledge", "line 8"), ("speech", "lines 1-6")]


def test_names_of_an_interview(tmp_path):
    """Of any script; what merely looks like one stands once, goes on with the turn before, and is said."""
    talk = "Émile: Where were you?\nИван: At sea.\nWhat I learned is this: never sail.\n"
    talk += "Émile: And then?\nso: be it\n"
    root, card = pack(tmp_path, talk, {"form": "interview", "speaker": ["Иван"]}, ("",))
    (made,) = ingest(root, card)
    assert made.text.split("\n") == [
        "Émile: Where were you?",
        "Иван: At sea. What I learned is this: never sail.",
        "Émile: And then? so: be it",
    ]
    assert "stand once only: line 3: What I learned is this" in survey(root, card).table()


def test_one_long_turn_is_cut_at_sentence_ends(tmp_path):
    root, card = pack(tmp_path, f"Q: And?\nA: {LONG}\nQ: Oh.\n", {"form": "interview", "speaker": ["A"]}, ("",))
    made = ingest(root, card)
    assert [m.text.split("\n")[0].split(":")[0] for m in made] == ["Q", "A"]
    assert all(len(m.text.split()) < 400 and "flood.\n" in m.text + "\n" for m in made)
    assert " ".join(m.text for m in made).replace("\n", " ").replace(" A: The", " The") == f"Q: And? {LONG} Q: Oh."


def chat(rows, folder, speaker="nora", begins=("",)):
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    return pack(folder, text, {"form": "chat", "speaker": [speaker]}, begins, "chat.jsonl")


def test_a_chat_in_any_of_its_schemas(tmp_path):
    rows = [
        {"speaker": "nora" if n == 2 else f"s{n}", "text": f"message number {n} of a long talk", "time": f"2020-0{n}"}
        for n in range(1, 7)
    ]
    rows += [{"from": "nora", "value": "I was not listening to a word of it."}, {"role": "nora", "content": "Sorry."}]
    rows += [{"speaker": "s1", "text": f"I asked Nora {n} times whether it came; she gave no answer."} for n in (1, 2)]
    rows += [
        {"speaker": f"s{n}", "text": "I asked Nora whether the salt had come and she did not say."} for n in (2, 3)
    ]
    root, card = chat(rows, tmp_path, begins=("", "2020-05"))
    made = ingest(root, card)
    assert [(m.stage, m.kind, m.source) for m in made] == [
        ("early", "speech", "lines 1-4"), ("late", "knowledge", "line 12"), ("late", "speech", "lines 5-11"),
    ]  # fmt: skip


@pytest.mark.parametrize("time", [None, "", "yesterday", "21:30", 0])
def test_a_message_without_such_a_time_begins_no_stage(tmp_path, time):
    rows = [{"speaker": "nora", "text": f"message number {n} of a long talk", "time": time} for n in range(3)]
    rows.append({"speaker": "nora", "text": "the last message of all of them", "time": "2020-06-01T10:00"})
    made = ingest(*chat(rows, tmp_path, begins=("", "2020-05-09")))
    assert [(m.stage, m.source) for m in made] == [("early", "lines 1-3"), ("late", "line 4")]


def test_every_bad_line_of_a_chat_is_named(tmp_path):
    rows = [{"speaker": "nora", "text": "A word."}, "[]", {"speaker": "nora"}, {"speaker": "nora", "text": 3}]
    told = refused(*chat(rows, tmp_path)).split("\n")
    assert [line.split("chat.jsonl")[1].split(":")[1] for line in told] == ["2", "3", "4"]
    assert "list" in told[0]
    assert "'text'" in told[1]
    assert "found 3" in told[2]
