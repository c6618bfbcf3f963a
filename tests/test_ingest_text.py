"""A text's lines become headings and paragraphs, and no character inside a line changes."""

import pytest

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
