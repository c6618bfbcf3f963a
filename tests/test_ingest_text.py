"""A text's lines become headings and paragraphs, and no character inside a line changes."""

import pytest

from persllm.errors import UserError
from persllm.ingest.text import find_heading, read_book, sentences


def book(folder, text):
    path = folder / "a.txt"
    path.write_text(text, encoding="utf-8")
    return read_book(path)


@pytest.mark.parametrize(
    "heading",
    [
        *("CHAPTER 1.", "Chapter XIV", "chapter xiv", "Letter 4", "Stave One", "CHAPTER THE FIRST", "IV.", "XCIX"),
        *("Part I Have You Forgotten", "Book one: lesson", "Act II. Scene the last", "Chapter IX\u2014home", "PREFACE"),
    ],
)
def test_headings(tmp_path, heading):
    chapters = book(tmp_path, f"{heading}\n\nA first one.\n\nVolume II\n\nChapter I\n\nA chapter of accidents.\n")
    assert [c.title for c in chapters] == [heading.rstrip("."), "Volume II, Chapter I"]
    assert find_heading(chapters, "volume ii chapter i", "x") == 1


@pytest.mark.parametrize(
    "line",
    [
        *("Ill.", "Civil.", "Vivi", "CIVIL", "VIVI", "ill", "IIX", "Part ill", "Chapter Ivi", "Chapter lil"),
        *("Part I have forgotten", "Book one lesson", "Act i saw", "Letter 4 came late"),
    ],
)
def test_a_line_that_merely_looks_like_a_heading_is_a_paragraph(tmp_path, line):
    chapters = book(tmp_path, f"Chapter 1\n\nA first one.\n\n{line}\n\nA last one.\n")
    assert [c.title for c in chapters] == ["Chapter 1"]
    assert [p.text for p in chapters[0].paragraphs] == ["A first one.", line, "A last one."]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("I came \u2014 I saw -- and then", "I came \u2014 I saw -- and then"),
        ("three- and four-legged", "three- and four-legged"),
        ("the town of ---- from", "the town of ---- from"),
        ("I came\u2014\nI saw--\nand then", "I came\u2014I saw--and then"),
        ("I came \u2014\nI saw --\nand then", "I came \u2014 I saw -- and then"),
        ("the town of ----\nfrom which M. D----\ncame", "the town of ---- from which M. D---- came"),
        ("a well-\nknown house\nof  salt", "a well-known house of salt"),
        ("He said--\n\u201cNo.\u201d", "He said-- \u201cNo.\u201d"),
    ],
)
def test_words_are_tied_at_line_ends_only(tmp_path, lines, text):
    (chapter,) = book(tmp_path, f"Chapter 1\n\n{lines}\n\nA last one.\n")
    assert chapter.paragraphs[0].text == text


def test_sentences_end_after_no_title():
    assert sentences('Mr. Darcy left. "So soon?" She sat down.') == ["Mr. Darcy left.", '"So soon?"', "She sat down."]


TOLD = "It rained on the day that I came to the harbour, and it had not stopped when I left it again, " * 3 + "at last."


@pytest.mark.parametrize(
    ("text", "titles", "passed"),
    [
        ("CONTENTS\n\nThe Tide ... 3\n\nThe Ebb ... 9\n\nChapter 1\nThe Tide\n\nA first one.", ["Chapter 1"], 10),
        (f"CONTENTS\n\nThe Tide\n\nThe Ebb\n\nThe Tide\n\n{TOLD}", ["CONTENTS"], 0),
        (f"CONTENTS\n\nThe Tide\n\nThe Tide\n\n{TOLD}\n\nConclusion\n\nOver.", ["CONTENTS", "Conclusion"], 0),
        ("Chapter 1\n\nHere.\n\n[Illustration: a boat]\n\nContents\n\nThe Tide", ["Chapter 1", "Contents"], 3),
    ],
)
def test_a_table_of_contents_is_left_out_and_never_the_book(tmp_path, text, titles, passed):
    chapters = book(tmp_path, text)
    assert [c.title for c in chapters] == titles
    assert sum(c.passed for c in chapters) == passed


def test_headings_alone_are_no_book(tmp_path):
    with pytest.raises(UserError, match=r"a\.txt: 2 headings and no paragraph; expected the text itself"):
        book(tmp_path, "Contents\n\nChapter 1\n")
