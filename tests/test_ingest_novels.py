"""Two whole novels are read right: their chapters, their speakers by a written spot check, in seconds.

The novels are no part of the project: put their plain text as ``frankenstein.txt`` and ``pride_and_prejudice.txt``
into ``../shared/data`` beside the repository, or the tests skip.
"""

import collections
import json
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from persllm import cards
from persllm.ingest import UNATTRIBUTED, ingest, survey
from persllm.ingest.novel import read_novel
from persllm.problems import Problems

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not (DATA / "frankenstein.txt").is_file() or not (DATA / "pride_and_prejudice.txt").is_file(),
    reason=f"needs frankenstein.txt and pride_and_prejudice.txt in {DATA}",
)
NOVELS = {
    "elizabeth": (
        "pride_and_prejudice.txt",
        {"form": "novel", "speaker": ["Elizabeth", "Lizzy", "Eliza"]},
        ("Chapter 1", "Chapter 36"),
    ),
    "victor": (
        "frankenstein.txt",
        {"form": "novel", "speaker": ["Victor", "Frankenstein"], "narrator": True},
        ("Chapter 1", "Chapter 10"),
    ),
    "creature": (
        "frankenstein.txt",
        {"form": "novel", "speaker": ["the fiend", "the daemon", "the being"]},
        ("Chapter 10", "Chapter 15"),
    ),
}
READ = ("elizabeth", "victor")
CREATURE = {"the daemon", "the fiend", "the being"}
"""What Frankenstein's creature, who has no name, is called where he speaks."""


def pack(folder, persona):
    file, source, begins = NOVELS[persona]
    root = folder / persona
    root.mkdir()
    shutil.copy(DATA / file, root / file)
    stages = {s: {"label": s, "summary": s, "begins": b} for s, b in zip(("early", "late"), begins, strict=True)}
    row = {"name": persona, "identity": "x", "profile": "x", "stages": stages, "source": source | {"file": file}}
    (root / "persona.yaml").write_text(json.dumps(row))
    problems = Problems()
    card = cards.read(root / "persona.yaml", problems)
    problems.check()
    assert card is not None
    return root, card


@pytest.mark.parametrize(("persona", "letters", "chapters"), [("elizabeth", 0, 61), ("victor", 4, 24)])
def test_chapters_and_counts(tmp_path, persona, letters, chapters):
    counts = survey(*pack(tmp_path, persona))
    titles = [f"Letter {n}" for n in range(1, letters + 1)] + [f"Chapter {n}" for n in range(1, chapters + 1)]
    assert [c.title for c in counts.chapters] == titles
    text = (DATA / NOVELS[persona][0]).read_text(encoding="utf-8")
    assert sum(c.words for c in counts.chapters) == pytest.approx(len(text.split()), rel=0.01)
    total = sum(c.quotations for c in counts.chapters)
    assert total == sum(row.quotations for row in counts.speakers)
    unknown = sum(row.quotations for row in counts.speakers if row.name == UNATTRIBUTED)
    assert unknown == sum(c.unattributed for c in counts.chapters)
    assert 0 < unknown < 0.2 * total
    assert counts.speakers[0].name == NOVELS[persona][1]["speaker"][0]


@pytest.mark.parametrize("persona", NOVELS)
def test_no_two_materials_share_a_run_of_twelve_words(tmp_path, persona):
    owners = collections.defaultdict(set)
    for made in ingest(*pack(tmp_path, persona)):
        words = re.findall(r"[^\W_]+", made.text.lower())
        for start in range(len(words) - 11):
            owners[tuple(words[start : start + 12])].add(made.id)
    assert len(owners) > 5000
    assert [(run, ids) for run, ids in owners.items() if len(ids) > 1] == []


@pytest.mark.parametrize("persona", READ)
def test_materials_of_a_whole_novel_in_seconds(tmp_path, persona):
    root, card = pack(tmp_path, persona)
    begun = time.process_time()
    made = ingest(root, card)
    assert time.process_time() - begun < 30
    kinds = collections.Counter((m.stage, m.kind) for m in made)
    assert min(kinds.values()) >= 25
    assert len(kinds) == 4
    assert len({m.id for m in made}) == len(made) == len({m.text for m in made})
    told = [m for m in made if m.kind == "knowledge"]
    assert all(30 <= len(m.text.split()) <= 250 for m in told)
    assert {m.source.split(",")[0] for m in made if m.stage == "late"} <= {
        f"Chapter {n}" for n in range(int(NOVELS[persona][2][1].split()[1]), 62)
    }
    if persona == "victor":
        # The creature's tale is no narration of Victor's, nor is the captain's end of the last chapter.
        assert not any(m.source.startswith("Chapter 12") for m in made)
        assert not any("Margaret, what comment" in m.text for m in made if m.kind == "speech")


def drawn(persona, seed=1818, number=25):
    file, source, _ = NOVELS[persona]
    narrates = range(4, 28) if persona == "victor" else None
    novel = read_novel(DATA / file, source["speaker"], narrates)
    spoken = [(section.chapter.title, turn) for section in novel.sections for turn in section.spoken]
    return [spoken[i] for i in sorted(random.Random(seed).sample(range(len(spoken)), number))]


def written(test, persona):
    block = test.__doc__.split(f"{persona}:\n")[1].split("\n\n")[0]
    return [tuple(part.strip() for part in line.split("|")) for line in block.strip().split("\n")]


def test_a_spot_check_of_fifty_quotations():
    """Fifty quotations drawn by a fixed seed, read by hand: chapter | first words | speaker as read | program's answer.

    ``-`` is no answer. Of the 25 of Pride and Prejudice 18 are right, 4 wrong and 3 without an answer; of the 25 of
    Frankenstein 20, 1 and 4. The readings of the first novel agree with the published annotation of it in all 25.
    Some rules were mended after a first look at these fifty and at other errors in both novels, so that both flatter
    the program; the last group below does not.

    elizabeth:
    Chapter 4 | Oh! you are a great deal | Elizabeth | Elizabeth
    Chapter 6 | Do you not think it would | Sir William | Sir William
    Chapter 8 | It ought to be good, it | Mr. Darcy | -
    Chapter 8 | Nor I, I am sure, | Miss Bingley | Miss Bingley
    Chapter 11 | If you mean Darcy, he may | Mr. Bingley | Mr. Bingley
    Chapter 11 | And _your_ defect is to hate | Elizabeth | -
    Chapter 13 | Ah! sir, I do indeed. It | Mrs. Bennet | Mrs. Bennet
    Chapter 16 | I wish I could call her | Mr. Wickham | Mr. Wickham
    Chapter 18 | This is no very striking resemblance | Mr. Darcy | Mr. Wickham
    Chapter 18 | My dear Miss Elizabeth, I have | Mr. Collins | Mr. Collins
    Chapter 32 | Yes, indeed, his friends may well | Elizabeth | Elizabeth
    Chapter 33 | I did not know before that | Elizabeth | Jane
    Chapter 33 | Care of him! Yes, I really | Colonel Fitzwilliam | Colonel Fitzwilliam
    Chapter 34 | From the very beginning--from the first | Elizabeth | Elizabeth
    Chapter 40 | Certainly. But the misfortune of speaking | Elizabeth | Elizabeth
    Chapter 43 | Is your master much at Pemberley | Mr. Gardiner | Elizabeth
    Chapter 47 | But can you think that Lydia | Mr. Gardiner | -
    Chapter 49 | That is very true, though it | Elizabeth | Elizabeth
    Chapter 52 | Exceedingly well. I should have considered | Mr. Wickham | Mr. Wickham
    Chapter 53 | Oh, lord! I don't know. Not | Lydia | Lydia
    Chapter 53 | No, no. You forced me into | Mr. Bennet | Elizabeth
    Chapter 53 | I begin to be sorry that | Jane | Jane
    Chapter 55 | My dear Jane, make haste and | Mrs. Bennet | Mrs. Bennet
    Chapter 56 | Your coming to Longbourn, to see | Elizabeth | Elizabeth
    Chapter 60 | And so was I. | Mr. Darcy | Mr. Darcy

    victor:
    Letter 4 | I have, doubtless, excited your curiosity, | the stranger | the stranger
    Chapter 4 | I know that while you are | my father | my father
    Chapter 6 | My dearest Cousin, You have been | Elizabeth | Elizabeth
    Chapter 6 | D--n the fellow! why, M. Clerval, | M Krempe | -
    Chapter 7 | Welcome, my dearest Victor, Ah! I | Ernest | my father
    Chapter 7 | No one did at first; but | Ernest | -
    Chapter 8 | I wish, that I were to | Elizabeth | Elizabeth
    Chapter 8 | Farewell, sweet lady, dearest Elizabeth, my | Justine | Justine
    Chapter 9 | When I reflect, my dear cousin, | Elizabeth | Elizabeth
    Chapter 10 | I expected this reception, All men | the creature | the daemon
    Chapter 11 | It is with considerable difficulty that | the creature | the fiend
    Chapter 15 | Such was the history of my | the creature | the fiend
    Chapter 15 | By your language, stranger, I suppose | the old man | the old man
    Chapter 15 | Excellent man! I thank you and | the creature | -
    Chapter 16 | It is utterly useless, we can | Felix | Felix
    Chapter 16 | Child, what is the meaning of | the creature | the fiend
    Chapter 16 | Awake, fairest, thy lover is near--he | the creature | the fiend
    Chapter 17 | You propose, to fly from the | Victor | Victor
    Chapter 20 | Fiend, your task is already fulfilled! | Victor | Victor
    Chapter 22 | My dear Friend, It gave me | Elizabeth | Elizabeth
    Chapter 22 | I WILL BE WITH YOU ON | the creature | -
    Chapter 22 | Be happy, my dear Victor, there | Elizabeth | Elizabeth
    Chapter 24 | My reign is not yet over | the creature | the daemon
    Chapter 24 | Do so, if you will; but | Victor | Victor
    Chapter 24 | Wretch! It is well that you | Captain Walton | Captain Walton

    Measured once against the published annotations of whole novels (not kept here): a quotation of the annotation
    counts as found, and one of ours as right, where nine tenths of its letters are in the other. Letters that the
    novel quotes are quotations here and not there. "all" counts no answer as wrong.

    novel                          quotations  precision  recall  speaker, all  speaker, answered  answered
    Pride and Prejudice                  1270       0.95    1.00          0.76               0.87      0.87
    the same, the copy above             1265                             0.74               0.84      0.88
    weights set on these three:
    Emma                                 1593       0.92    0.99          0.69               0.83      0.83
    Sense and Sensibility                1085       0.96    1.00          0.72               0.84      0.87
    A Room with a View                   1634       0.93    1.00          0.66               0.76      0.86
    never looked at before:
    Persuasion                            488       0.84    1.00          0.68               0.77      0.89
    Northanger Abbey                      842       0.94    1.00          0.63               0.76      0.83
    Howards End                          2606       0.94    1.00          0.64               0.75      0.87
    Daisy Miller                          550       0.98    1.00          0.83               0.87      0.96
    The Invisible Man                     904       0.92    0.99          0.56               0.66      0.85
    The Picture of Dorian Gray           1171       0.97    1.00          0.68               0.77      0.89

    By the way the text tells it, in Pride and Prejudice: named beside the quotation 0.97 of all right, by a pronoun or
    a tie of kin 0.63, not at all 0.70. No annotation of the whole of Frankenstein is known.
    """
    right = collections.Counter()
    for persona in READ:
        rows, found = written(test_a_spot_check_of_fifty_quotations, persona), drawn(persona)
        assert len(rows) == len(found) == 25
        for (chapter, words, read, answer), (title, turn) in zip(rows, found, strict=True):
            assert (title, " ".join(turn.text.split()[:6])) == (chapter, words)
            assert (turn.speaker or "-") == answer
            same = answer == read or (read == "the creature" and answer in CREATURE)
            right[persona, "right" if same else "none" if answer == "-" else "wrong"] += 1
    assert right == {
        ("elizabeth", "right"): 18, ("elizabeth", "wrong"): 4, ("elizabeth", "none"): 3,
        ("victor", "right"): 20, ("victor", "wrong"): 1, ("victor", "none"): 4,
    }  # fmt: skip
