"""The log of decisions about items."""

import fcntl
import json
import re
import threading

import pytest

from persllm import records, reviews
from persllm.errors import UserError
from persllm.records import Item, Reanswer
from persllm.review.history import changed_words


def line(decision="accept", of="0" * 16, **more):
    return reviews.Review(id="a", of=of, decision=decision, by="Ada", at="2026-01-31T12:00:00Z", **more)


def test_a_spoilt_log_is_told_line_by_line(tmp_path):
    good = {"id": "a", "of": "0" * 16, "decision": "accept", "by": "Ada", "at": "2026-01-31T12:00:00Z"}
    bad = [
        {"decision": "acept"},
        {"decision": "edit"},
        {"question": "Q?"},
        {"decision": "edit", "response": " "},
        {"by": 1},
    ]
    text = "".join(json.dumps(good | change) + "\n" for change in [{}, *bad])
    (tmp_path / reviews.FILE).write_text(text)
    with pytest.raises(UserError) as caught:
        reviews.load(tmp_path)
    told = str(caught.value).splitlines()
    assert [re.search(r"jsonl:(\d+)", text)[1] for text in told] == ["2", "3", "4", "5", "6"]
    assert "did you mean 'accept'" in told[0]


def test_a_line_that_was_left_without_an_end_is_not_joined(tmp_path):
    one = line()
    (tmp_path / reviews.FILE).write_text(records.to_line(one).rstrip())
    with pytest.raises(reviews.OvertakenError):
        reviews.Log(tmp_path).append(one, seen=0)
    reviews.Log(tmp_path).append(one, seen=1)
    assert reviews.load(tmp_path) == [one, one]


def test_a_log_is_read_on_and_read_anew_where_it_was_mended(tmp_path):
    path, log = tmp_path / reviews.FILE, reviews.Log(tmp_path)
    log.append(line(), seen=0)
    other = reviews.Log(tmp_path)
    other.append(line("reject"), seen=1)
    assert log.read() == other.read() == [line(), line("reject")]
    path.write_text(records.to_line(line("reject")))
    assert log.read() == [line("reject")]
    with path.open("a") as file:
        file.write("{}\n")
    with pytest.raises(UserError, match=r"reviews.jsonl:2: field.* 'id'.* missing"):
        log.read()


def test_changed_words():
    assert changed_words("He is cold. Bah!", "He is very cold. Bah!") == [
        ("same", "He is "), ("new", "very "), ("same", "cold. Bah!"),
    ]  # fmt: skip


def test_one_writer_at_a_time(tmp_path):
    """While another process holds the log a decision waits, and then meets what was written meanwhile."""
    told = []

    def write():
        try:
            reviews.Log(tmp_path).append(line("reject"), seen=0)
        except reviews.OvertakenError:
            told.append("overtaken")

    with (tmp_path / reviews.FILE).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        file.write(records.to_line(line()))
    thread.join(10)
    assert told == ["overtaken"]
    assert reviews.load(tmp_path) == [line()]


def test_a_line_that_is_being_written_is_waited_for(tmp_path):
    told = []
    with (tmp_path / reviews.FILE).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(records.to_line(line())[:30])
        file.flush()
        thread = threading.Thread(target=lambda: told.append(reviews.load(tmp_path)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        file.write(records.to_line(line())[30:])
    thread.join(10)
    assert told == [[line()]]


def item(id, twin=None, **texts):
    fields = {"question": f"{id}?", "analysis": "A.", "response": "R."} | texts
    pattern = "false_premise" if twin else "opinion"
    more = {"persona": "abel", "stage": "early", "material_id": "m", "annotator": "local"}
    return Item(id=id, pattern=pattern, premise_pair=twin, **fields, **more)


def test_a_decision_is_about_a_text_and_not_about_a_name(tmp_path):
    """An item that was written anew under the same id is undecided."""
    old, new = item("a"), item("a", response="Another.")
    decided = [line("reject", reviews.digest(old))]
    assert reviews.apply([old], [], decided).items == []
    settled = reviews.apply([new], [], decided)
    assert settled.items == [new]
    assert (settled.counts["open"], settled.counts["stale"]) == (1, 1)


def test_a_question_is_edited_at_its_item():
    again = Reanswer(item_id="a", persona="abel", stage="late", analysis="A.", response="R.", annotator="local")
    edit = reviews.Review(id="a@late", of=reviews.digest(again), decision="edit", question="Q?", by="Ada", at="now")
    with pytest.raises(UserError, match="a@late is a re-answer; edit the question of a instead"):
        reviews.apply([item("a")], [again], [edit])
