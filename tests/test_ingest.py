"""One long text becomes materials: chapters, quotations, speakers, segments, and clear words where it cannot."""

import collections
import json
from types import SimpleNamespace

import pytest

from persllm import cards, packs
from persllm.errors import UserError
from persllm.ingest import UNATTRIBUTED, ingest, survey
from persllm.ingest.novel import read_novel
from persllm.ingest.quotes import mark, style_of
from persllm.ingest.text import Paragraph, read_book
from persllm.problems import Problems
from persllm.steps import materials

LONG = " ".join(f"The harbour had its own weather in the year of the {n}th flood." for n in range(40))
NOVEL = f"""The legal part of a licence, with "quotation marks" that nobody says.

*** START OF THE PROJECT GUTENBERG EBOOK THE SALT HOUSE ***

THE SALT HOUSE

CONTENTS

Chapter I

Chapter II. The Tide

Chapter I

Mr. Halloran kept the salt house, and Nora Quill kept his books. Nora was quick with
figures and slow to anger; she had come to the harbour as a girl, and she meant to
stay there for as long as the pans were full and the roof kept out the rain.

"You are late, Mr. Halloran," said Nora.

"I am never late," he replied; "the clock is early."

"The clock is a clock."

"Then it ought to mind its business."

"And who winds it?"

Nora laughed and shut the book.

"I wind it, and I pay for it," said Mr. Halloran, "and I shall wind it when I please.

"A man may wind his own clock," he added, "in his own house."

The stranger at the door coughed. "Is this the salt house?" asked the stranger.

Chapter II. The Tide

{LONG}

Mr. Halloran was not a hard man, but he had a hard winter behind him. He told Nora so,
and Nora believed one half of it, which was the half about the winter and the price of coal.

Nora went down to the water. Then Mrs. Halloran came after her with a shawl and cried:

"Nora! You will take cold."

"I never take cold."

"Your word 'never' is a proud one," said Mrs. Halloran. "My mother said 'never' and was wet for a week."

*** END OF THE PROJECT GUTENBERG EBOOK THE SALT HOUSE ***

More of the licence, about copies of this "work".
"""
DIARY = """Letter 1

To my sister, from the north. I have a ship and I have no friend, and I tell you of both.

Chapter 1

I was born by the lake, and I was a happy child; my father gave me books, and I read them
until my eyes ached. I remember the smell of them yet, and I would give my right hand to
sit there again with my brother and hear my mother call us in.

The town was old. Its walls were built by bishops and its bridges by merchants, and each
had thought more of the other than of the river that ran between them. In the spring the
water came up over the lower streets, and the bakers went about in boats with the loaves.

"You read too much," said my father.

"I read too little," I answered, "and too late."

The giant looked into the fire and began his tale.

Chapter 2

"I woke in the dark, and I knew nothing, and I was cold.

"I came to a house and knocked. 'Who is there?' said the old man. 'Come in.'

"'I am a traveller,' said I.

"That was the first word that I ever spoke to anybody, and the last that was believed."

Bruno, in continuation

I write this in the cabin. Anselm is ill, and I fear for him, and I have nobody else here
whom I should like to keep; the ice is about us, and it talks at night like cattle in a barn.

"They shout," I said.
"""


def pack(folder, text, source, begins=("", "Chapter II. The Tide"), file="text.txt"):
    root = folder / "nora"
    root.mkdir()
    (root / file).write_text(text, encoding="utf-8")
    stages = {name: {"label": name, "summary": name} for name in ("early", "late")[: len(begins)]}
    for stage, begin in zip(stages.values(), begins, strict=True):
        stage |= {"begins": begin} if begin else {}
    row = {
        "name": "Nora",
        "identity": "A clerk.",
        "profile": "Quick.",
        "stages": stages,
        "source": {"file": file} | source,
    }
    (root / "persona.yaml").write_text(json.dumps(row))
    problems = Problems()
    card = cards.read(root / "persona.yaml", problems)
    problems.check()
    assert card is not None
    return root, card


SOURCE = {"form": "novel", "speaker": ["Nora"]}


@pytest.fixture
def nora(tmp_path):
    return pack(tmp_path, NOVEL, SOURCE)


def speakers(path, text, names=(), narrates=None):
    path = path / "book.txt"
    path.write_text(text, encoding="utf-8")
    novel = read_novel(path, names, narrates)
    return [(turn.speaker, turn.text) for section in novel.sections for turn in section.spoken]


def test_chapters_without_licence_and_contents(nora):
    chapters = read_book(nora[0] / "text.txt")
    assert [c.title for c in chapters] == ["", "Chapter I", "Chapter II. The Tide"]
    first = chapters[1].paragraphs[0]
    assert first.text.startswith("Mr. Halloran kept")
    assert "\n" not in first.text
    assert "figures and slow" in first.text
    text = " ".join(p.text for c in chapters for p in c.paragraphs)
    assert "licence" not in text
    assert "copies" not in text
    lines = NOVEL.split("\n")
    assert all(p.text.startswith(lines[p.line - 1][:20]) for c in chapters for p in c.paragraphs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"One," he said, "and two."', ["One, and two."]),
        ("\u201cOne,\u201d he said. \u201cTwo.\u201d He read the word \u201cthree\u201d aloud.", ["One, Two."]),
        ("'It's the boys' own,' he said, 'and 'tis \"good\" too.'", ["It's the boys' own, and 'tis \"good\" too."]),
        ("\u2018One,\u2019 he said. \u2018Don\u2019t.\u2019", ["One, Don\u2019t."]),
        ("\u2018At the boys\u2019 house an\u2019 saw it,\u2019 said he.", ["At the boys\u2019 house an\u2019 saw it,"]),
        ("He read \u2018three\u2019 aloud. \u2018One \u2026\u2019 he said.", ["One \u2026"]),
        ("\"He cried, 'Run!' and I ran.\"", ["He cried, 'Run!' and I ran."]),
        ('"Yes." Then Paul said, "No."', ["Yes.", "No."]),
    ],
)
def test_quotations(text, said):
    assert [turn.text for turn in mark([Paragraph(1, text, 1)], style_of(text * 3))] == said


def test_a_quotation_goes_on_over_paragraphs_until_it_is_closed():
    texts = ['"One.', '"Two," he said, "and three.', '"Four."', '"Five.', "Nobody speaks."]
    turns = mark([Paragraph(i, text, i) for i, text in enumerate(texts, 1)], "straight")
    assert [(t.first, t.last, t.text, t.closed) for t in turns] == [
        (0, 2, "One. Two, and three. Four.", True),
        (3, 3, "Five.", False),
    ]


def test_speakers_of_the_novel(tmp_path):
    found = speakers(tmp_path, NOVEL, ["Nora", "Nora Quill"])
    assert [who for who, _ in found] == [
        *("Nora", "Mr. Halloran", "Nora", "Mr. Halloran", "Nora", "Mr. Halloran", "the stranger"),
        *("Mrs. Halloran", "Nora", "Mrs. Halloran"),
    ]
    assert found[5][1].startswith("I wind it")
    assert found[5][1].endswith("in his own house.")


CASES = {
    "said before": ("Anna Berg smiled and said, {}", "Anna"),
    "passive": ("He was then accosted by Miss Cole, {}", "Miss Cole"),
    "her answer": ("Anna looked up. {} was her answer.", "Anna"),
    "pronoun by gender": ("Paul Reed met Anna at the gate. {} she asked.", "Anna"),
    "owner's answer": ("{} was Paul's reply.", "Paul"),
    "a wife": ("Mr. Cole had come home. {} cried his wife.", "Mrs. Cole"),
    "object is no speaker": ("Anna took leave of Paul and said in a low voice, {}", "Anna"),
}


@pytest.mark.parametrize("case", CASES)
def test_tags(tmp_path, case):
    cast = "Anna said so. She sat. Paul said so. He sat. Then Anna said it, and Paul said it. In all, Anna was glad. "
    cast += "But Paul was glad; he slept. But Anna was sad; she slept. Mr. Cole and Mrs. Cole and Miss Cole met them."
    narration, speaker = CASES[case]
    text = f"{cast}\n\n" + "\n\n".join([cast] * 6) + "\n\n" + narration.format('"It will rain before night,"')
    assert speakers(tmp_path, text)[-1] == (speaker, "It will rain before night,")


def test_who_is_called_by_name_does_not_speak(tmp_path):
    text = "So Anna said it, and Paul said it. So Anna was there, and Paul was there.\n\n"
    text += '"Paul, it is late," said Anna.\n\n"It is, Anna."'
    assert [who for who, _ in speakers(tmp_path, text)] == ["Anna", "Paul"]


def test_nobody_known_is_no_speaker(nora, tmp_path):
    assert speakers(tmp_path, 'Rain fell.\n\n"Who goes there?"\n') == [(None, "Who goes there?")]


def test_materials_of_a_novel(nora):
    root, card = nora
    made = ingest(root, card)
    assert [m.id for m in made if m.stage == "early" and m.kind == "knowledge"] == ["nora-early-knowledge-001"]
    speech = [m for m in made if m.kind == "speech"]
    first = speech[0].text.split("\n")
    assert first[:2] == ["Nora: You are late, Mr. Halloran,", "Mr. Halloran: I am never late, the clock is early."]
    assert len(first) == 5
    assert speech[0].source == "Chapter I, paragraphs 2-6"
    assert all("Nora: " in m.text and len(m.text.split("\n")) <= 5 for m in speech)
    assert {m.persona for m in made} == {"nora"}
    knowledge = [m for m in made if m.kind == "knowledge" and m.stage == "late"]
    assert [m.source for m in knowledge] == ["Chapter II. The Tide, paragraph 2"]
    assert "hard winter" in knowledge[0].text


def test_a_stage_ends_where_the_next_begins_though_a_study_leaves_that_out(nora):
    root, card = nora
    early = cards.Card(card.name, card.identity, card.profile, {"early": card.stages["early"]}, card.source)
    whole = [m for m in ingest(root, card) if m.stage == "early"]
    assert ingest(root, early) == whole


def test_a_narrator(tmp_path):
    source = {"form": "novel", "speaker": ["Anselm"], "narrator": True}
    root, card = pack(tmp_path, DIARY, source, begins=("Chapter 1",))
    made = ingest(root, card)
    knowledge, speech = ([m.text for m in made if m.kind == kind] for kind in ("knowledge", "speech"))
    assert [text[:12] for text in speech] == ["I was born b", "my father: Y"]
    assert [text[:12] for text in knowledge] == ["The town was", "I write this"]
    found = {text: who for who, text in speakers(tmp_path, DIARY, ["Anselm"], range(1, 3))}
    assert found["I read too little, and too late."] == "Anselm"
    assert found["I am a traveller,"] == found[next(t for t in found if t.startswith("I woke"))] == "the giant"
    assert found["Who is there? Come in."] == "the old man"
    assert found["They shout,"] == "Bruno"


def test_what_is_said_in_a_tale_of_the_personas_is_told_once(tmp_path):
    root, card = pack(tmp_path, DIARY, {"form": "novel", "speaker": ["the giant"]}, begins=("Chapter 2",))
    speech = [m.text for m in ingest(root, card) if m.kind == "speech"]
    assert [text[:9] for text in speech] == ["I woke in"]
    assert "I am a traveller" in speech[0]


def test_what_is_said_in_a_tale_of_anothers_makes_segments(tmp_path):
    root, card = pack(tmp_path, DIARY, {"form": "novel", "speaker": ["the old man"]}, begins=("Chapter 2",))
    assert [m.text for m in ingest(root, card) if m.kind == "speech"] == [
        "the old man: Who is there? Come in.\nthe giant: I am a traveller,"
    ]


def test_long_paragraphs_are_cut_at_sentence_ends(tmp_path):
    root, card = pack(
        tmp_path, f"{LONG} Nora was there.\n\nNora: she was.", {"form": "prose", "speaker": ["Nora"]}, ("",)
    )
    made = ingest(root, card)
    assert len(made) == 3
    assert all(30 <= len(m.text.split()) <= 200 and m.text.endswith(".") for m in made)
    assert " ".join(m.text for m in made) == f"{LONG} Nora was there. Nora: she was."


def refused(root, card):
    with pytest.raises(UserError) as error:
        ingest(root, card)
    return str(error.value)


def test_errors_say_how_to_mend_them(tmp_path):
    root, card = pack(tmp_path, NOVEL, SOURCE, begins=("", "Chapter II. The Tides"))
    told = refused(root, card)
    assert "stages.late.begins: no heading equals 'Chapter II. The Tides'; did you mean 'Chapter II. The Tide'?" in told
    (root / "text.txt").unlink()
    assert "no such file" in refused(root, card)


def test_a_persona_that_never_speaks_is_told_who_does(tmp_path):
    told = refused(*pack(tmp_path, NOVEL, {"form": "novel", "speaker": ["Ophelia"]}))
    assert "'Ophelia' never speaks in text.txt" in told
    assert "Mr. Halloran (3), " in told


def test_an_empty_stage_and_stages_out_of_order(tmp_path):
    text = NOVEL.replace("*** END", "Chapter III\n\nThe rain fell on the roofs of the town.\n\n*** END", 1)
    (tmp_path / "a").mkdir()
    told = refused(*pack(tmp_path / "a", text, SOURCE, begins=("", "Chapter III")))
    assert "stages.late: nothing in text.txt" in told
    told = refused(*pack(tmp_path, text, SOURCE, begins=("Chapter III", "Chapter I")))
    assert "'Chapter I' does not come after the beginning of 'early'" in told


def test_the_survey_counts_everything_once(nora):
    counts = survey(*nora)
    assert [(c.title, c.quotations) for c in counts.chapters] == [
        ("", 0), ("Chapter I", 7), ("Chapter II. The Tide", 3),
    ]  # fmt: skip
    rows = {row.name: row.quotations for row in counts.speakers}
    assert rows == {"Nora": 4, "Mr. Halloran": 3, "Mrs. Halloran": 2, "the stranger": 1}
    assert sum(rows.values()) == sum(c.quotations for c in counts.chapters)
    assert "Mrs. Halloran" in counts.table()
    assert UNATTRIBUTED not in counts.table()
    assert collections.Counter(c.paragraphs for c in counts.chapters)[0] == 0


def test_what_is_used_and_what_is_left_out_is_told(tmp_path):
    """Narration that breaks off or ends in italics is used; a lead of a quotation and a short one alone are not."""
    told = "Nora went down to the salt pans by the harbour wall before it was light, and she counted them all, "
    ends = [
        "as she had always and _ever_ done \u2026",
        "as she had been _told_._",
        "until the bell--",
        "and then she cried\u2014",
    ]
    texts = [f"{told}{end}" for end in ends] + ['"I am Nora, and I am cold," said Nora.'] + ["It rained."] * 4
    book = "Chapter 1\nThe Pans\n\n" + "\n\n".join([*texts, "So Nora slept."])
    root, card = pack(tmp_path, book, {"form": "novel", "speaker": ["Nora"]}, ("",))
    made = [m for m in ingest(root, card) if m.kind == "knowledge"]
    whole = " ".join(m.text for m in made)
    assert [text in whole for text in texts[:5]] == [True, True, True, False, False]
    (use,) = survey(root, card).uses.values()
    assert use.words == len(book.split()) - 2
    assert use.used("knowledge") == len(whole.split())
    assert use.used("speech") == 7
    assert [passage.text for passage in use.short] == ["So Nora slept."]
    (sentence,) = survey(root, card).used()
    left = use.words - use.used("knowledge") - 7
    assert sentence.endswith(f"7 became speech; {left} are left out, 3 of these in passages under 30 words")
    # The step says it in its log, and beside the materials.
    (out := tmp_path / "out").mkdir()
    said = []
    config = {"sha256": packs.sha256(root), "stages": None}
    context = SimpleNamespace(local={"folder": str(root)}, config=config, out=out, say=said.append)
    materials.run(context)  # type: ignore[arg-type]
    assert said == [sentence]
    assert sentence in (out / "survey.txt").read_text()
    assert materials.read(out)[1] == ingest(root, card)
