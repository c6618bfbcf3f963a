"""What is taken of a row of instruction data, and why a row is passed over."""

import pytest

from persllm.chats.turns import Skip, Turn, first_turn


def chat(*turns, role="role", content="content"):
    return [{role: who, content: said} for who, said in turns]


QA = (("user", "q"), ("assistant", "a"))


@pytest.mark.parametrize(
    ("row", "system", "later"),
    [
        ({"messages": chat(*QA)}, False, False),
        ({"messages": chat(("system", "s"), *QA)}, True, False),
        ({"messages": chat(("system", "s"), ("developer", "d"), *QA, ("user", "r"), ("assistant", "b"))}, True, True),
        ({"messages": chat(("user", [{"type": "text", "text": "q"}]), ("assistant", ["a"]))}, False, False),
        ({"conversations": chat(("human", "q"), ("gpt", "a"), role="from", content="value")}, False, False),
        ({"conversations": chat(("Human", " q"), ("GPT", "a\n"), ("", ""), role="from", content="value")}, False, True),
        ({"conversations": chat(*QA)}, False, False),
        ({"messages": None, "instruction": "q", "input": None, "output": "a"}, False, False),
        ({"instruction": "q", "output": "a", "text": "### q a"}, False, False),
        ({"instruction": "", "input": "q", "output": "a"}, False, False),
    ],
)  # fmt: skip
def test_the_first_question_and_answer(row, system, later):
    assert first_turn(row) == Turn("q", "a", system, later)


def test_an_input_follows_its_instruction():
    assert first_turn({"instruction": "q", "input": "more", "output": "a"}) == Turn("q\n\nmore", "a")
    assert first_turn({"instruction": "not_text", "input": "", "output": "yes"}) == Turn("not_text", "yes")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["q", "a"], Skip.not_an_object),
        ({"text": "x"}, Skip.unknown_columns),
        ({"messages": []}, Skip.no_turns),
        ({"messages": None, "conversations": None}, Skip.no_turns),
        ({"messages": "q"}, Skip.no_turns),
        ({"messages": ["q", "a"]}, Skip.bad_turn),
        ({"messages": chat(("user", "q"), ("narrator", "a"))}, Skip.bad_turn),
        ({"messages": chat((None, "q"), ("assistant", "a"))}, Skip.bad_turn),
        ({"messages": chat(("user", [{"type": "image", "url": "u"}]), ("assistant", "a"))}, Skip.not_text),
        ({"messages": chat(("user", {"parts": ["q"]}), ("assistant", "a"))}, Skip.not_text),
        ({"messages": chat(("user", "q"), ("assistant", "\ud800"))}, Skip.not_text),
        ({"messages": chat(("assistant", "go on"), *QA)}, Skip.begins_elsewhere),
        ({"messages": chat(("system", "s"))}, Skip.begins_elsewhere),
        ({"messages": chat(("user", " "), ("assistant", "a"))}, Skip.no_question),
        ({"messages": chat(("user", None), ("assistant", "a"))}, Skip.no_question),
        ({"messages": chat(("user", "q"))}, Skip.no_answer),
        ({"messages": chat(("user", "q"), ("assistant", None), ("tool", "4"), ("assistant", "a"))}, Skip.no_answer),
        ({"conversations": chat(("human", "q"), ("function_call", "f()"), role="from")}, Skip.no_answer),
        ({"messages": chat(("user", "q"), ("user", "r"), ("assistant", "a"))}, Skip.no_answer),
        ({"instruction": "q", "output": None}, Skip.no_answer),
        ({"instruction": "", "input": "", "output": "a"}, Skip.no_question),
        ({"instruction": ["q", 3], "output": "a"}, Skip.not_text),
    ],
)  # fmt: skip
def test_a_row_that_is_passed_over_says_why(row, reason):
    assert first_turn(row) is reason
