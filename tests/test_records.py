"""Malformed records name the file, the line, the field and what was expected."""

import json

import pytest

from persllm import records
from persllm.errors import UserError
from persllm.records import Item, Material, Pair, Score

ITEM = {
    "id": "i",
    "persona": "p",
    "stage": "s",
    "pattern": "opinion",
    "material_id": "m",
    "premise_pair": None,
    "question": "q",
    "analysis": "a",
    "response": "r",
    "annotator": "recorded",
}
MATERIAL = {"id": "m", "persona": "p", "stage": "s", "kind": "speech", "order": 1, "text": "t", "source": "x"}
PAIR = {
    "id": "p",
    "persona": "p",
    "stage": "s",
    "kind": "cross_stage",
    "pattern": "opinion",
    "prompt": "q",
    "chosen": ["a", "r"],
    "rejected": ["a", "r"],
    "rejected_from": "x",
}
SCORE = {
    "item_id": "i",
    "arm": "a",
    "seed": 0,
    "persona": "p",
    "stage": "s",
    "cluster": "m",
    "metric": "bleu",
    "value": 1,
}


def without(row, key):
    return {k: v for k, v in row.items() if k != key}


@pytest.mark.parametrize(
    ("cls", "row", "expected"),
    [
        (Item, without(ITEM, "question"), "field 'question' is missing"),
        (Item, ITEM | {"questoin": "x"}, "unknown field 'questoin'; did you mean 'question'?"),
        (Item, ITEM | {"question": 3}, "field 'question' should be str, found 3"),
        (Item, ITEM | {"question": None}, "field 'question' should be str, found None"),
        (Item, ITEM | {"premise_pair": 1}, "field 'premise_pair' should be str | None, found 1"),
        (Item, ITEM | {"pattern": "joke"}, "field 'pattern' is 'joke', expected one of knowledge, opinion"),
        (Item, ["not", "an", "object"], "expected a JSON object, found list"),
        (Material, MATERIAL | {"order": True}, "field 'order' should be int, found True"),
        (Material, MATERIAL | {"order": "1"}, "field 'order' should be int, found '1'"),
        (Material, MATERIAL | {"kind": "rumour"}, "field 'kind' is 'rumour', expected one of knowledge, speech"),
        (Pair, PAIR | {"chosen": "r"}, "field 'chosen' should be list[str], found 'r'"),
        (Pair, PAIR | {"chosen": ["a", 1]}, "field 'chosen' should be list[str]"),
        (Score, SCORE | {"value": "1"}, "field 'value' should be float | None, found '1'"),
        (Score, SCORE | {"value": False}, "field 'value' should be float | None, found False"),
    ],
)
def test_malformed_row(tmp_path, cls, row, expected):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError) as caught:
        records.read(cls, path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"id": "i"', "rows.jsonl:1: not valid JSON"),
        (b'{"a": 1}\n{"a": 1} {"b": 2}\n', "rows.jsonl:2: not valid JSON"),
        (b'\n{"a": ' + b"7" * 5000 + b"}", "rows.jsonl:2: a number of more than 4300 digits; mend or remove the line"),
        (b"\n" + b"[" * 200000, "rows.jsonl:2: JSON nested too deeply; mend or remove the line"),
        (b'{"id": "\xff"}\n', "rows.jsonl: not UTF-8 text"),
    ],
)
def test_malformed_file(tmp_path, content, expected):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        list(records.read_json_lines(path))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        records.read(Item, tmp_path / "none.jsonl")


@pytest.mark.parametrize(("cls", "row"), [(Item, ITEM), (Material, MATERIAL), (Pair, PAIR), (Score, SCORE)])
def test_written_rows_read_back(tmp_path, cls, row):
    record = cls(**(row | ({"text": "naïve – “quoted”\u2028line"} if cls is Material else {})))
    records.write(tmp_path / "rows.jsonl", [record, record])
    assert records.read(cls, tmp_path / "rows.jsonl") == [record, record]


def test_a_score_may_be_missing_or_whole(tmp_path):
    records.write(tmp_path / "rows.jsonl", [Score(**(SCORE | {"value": None})), Score(**SCORE)])
    assert [score.value for score in records.read(Score, tmp_path / "rows.jsonl")] == [None, 1]


def test_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ITEM).encode() + b"\r\n\r\n")
    assert records.read(Item, path) == [Item(**ITEM)]
