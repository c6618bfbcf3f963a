"""The split: by paragraph, with duplicates dropped and near-duplicates on one side."""

import dataclasses
import json
import re

import numpy as np
import pytest
from test_steps import EMBEDDER, item

from persllm import duplicates, records
from persllm.embeddings import embed
from persllm.errors import UserError
from persllm.records import Item, Material, Reanswer
from persllm.steps import materials, split

pytestmark = pytest.mark.pipeline
LEAK = 0.8

REPHRASED = {
    "How much does Bob Cratchit get, and where do you put him?": (
        "What wages do you pay Bob Cratchit, and where does he sit?"
    ),
    "How big is Cratchit's family, and where do they all squeeze in?": (
        "How many are there in the Cratchit family, and where do they all live?"
    ),
    "Describe the Christmas do at Fezziwig's. What would a thing like that cost?": (
        "Tell me about Fezziwig's Christmas party, and what such an evening would cost."
    ),
    "I barely slept, kept having the strangest dreams. You ever get that?": (
        "I hardly got any sleep, I had such weird dreams. Does that happen to you?"
    ),
}
RELATED = [
    "Do you keep a picture of your sister Fan anywhere?",
    "You give Bob Cratchit just the one day off at Christmas, so when is he due back?",
    "How are the Cratchits bearing up, now that Tiny Tim is so much stronger?",
    "I heard a clerk could freeze in that office of yours. How much coal do you get through?",
    "I don't chat with strangers in the street. You never know what they want.",
]
CLERK = (
    "Bob Cratchit, the only clerk at Scrooge and Marley, earns fifteen shillings a week for copying letters. He works "
    "in a small cell like a water tank, and Scrooge keeps his own door open so that he can watch him."
)
CLERK_AGAIN = (
    "Scrooge and Marley's one clerk, Bob Cratchit, is paid fifteen shillings weekly to copy letters. His room is a "
    "tiny cell resembling a tank, and his employer's door stands open to keep an eye on him."
)


def paragraph(name, text, stage="early", kind="knowledge"):
    return Material(id=name, persona="x", stage=stage, kind=kind, order=1, text=text, source="s")


def on_both_sides(parts, paragraphs):
    """Return what lies on both sides of a split, by its own count: paragraphs, near-duplicates of them, questions."""
    by_id = {one.id: one for one in paragraphs}
    found = set()
    for here, there in (("train", "dev"), ("train", "test"), ("dev", "test")):
        sources = [sorted({one.material_id for one in parts[name]}) for name in (here, there)]
        found |= set(sources[0]) & set(sources[1])
        texts = [[by_id[name].text for name in some] for some in sources]
        questions = [[one.question for one in parts[name]] for name in (here, there)]
        for names, (left, right) in ((sources, texts), ([[o.id for o in parts[n]] for n in (here, there)], questions)):
            close = embed(left, EMBEDDER) @ embed(right, EMBEDDER).T >= LEAK
            found |= {(names[0][i], names[1][j]) for i, j in np.argwhere(close).tolist()}
    return found


@pytest.fixture(scope="module")
def annotated(lab):
    """The first persona's split step, its paragraphs and its items."""
    step = lab.cell("prompt_none").generate.inputs["split"]
    _, paragraphs = materials.read(lab.run(step.inputs["materials"]))
    return step, paragraphs, records.read(Item, lab.run(step.inputs["annotate"]) / "items.jsonl")


@pytest.fixture(scope="module")
def parted(lab, annotated):
    """The same one's artifacts and parts."""
    artifacts = lab.run(annotated[0])
    return artifacts, {name: split.read(artifacts, name) for name in split.PARTS}


def test_no_paragraph_and_no_near_duplicate_is_on_both_sides(parted, annotated):
    _, paragraphs, items = annotated
    artifacts, parts = parted
    assert on_both_sides(parts, paragraphs) == set()
    told = json.loads((artifacts / "split.json").read_text())
    dropped = told["duplicates_dropped"] | told["near_duplicates_dropped"]
    assert {one.id for found in parts.values() for one in found} == {one.id for one in items} - set(dropped)
    assert told["items"] == {name: len(found) for name, found in parts.items()}


def test_a_split_by_item_is_caught(annotated):
    """The check above is no empty one: it names the paragraphs that a split by item puts on both sides."""
    _, paragraphs, items = annotated
    shuffled = sorted(items, key=lambda one: one.question)
    parts = {"test": shuffled[::4], "dev": shuffled[1::8], "train": [*shuffled[2::4], *shuffled[3::4]]}
    shared = {one for one in on_both_sides(parts, paragraphs) if isinstance(one, str)}
    assert len(shared) > 5


def test_every_stage_and_pattern_is_held_out(parted, annotated):
    held = {(one.stage, one.pattern) for one in parted[1]["test"]}
    assert held == {(one.stage, one.pattern) for one in annotated[2]}


def test_twins_stay_together(parted):
    for part in parted[1].values():
        found = {one.id for one in part}
        assert all(one.premise_pair is None or one.premise_pair in found for one in part)


def test_assignment_is_a_function_of_seed_and_not_of_order(annotated):
    items = annotated[2]
    one = split.assign(items, 0.25, 0.1, seed=0)
    assert split.assign(items[::-1], 0.25, 0.1, seed=0) == one
    assert split.assign(items, 0.25, 0.1, seed=1) != one
    share = sum(part == "test" for part in one.values()) / len(one)
    assert share == pytest.approx(0.25, abs=0.05)


def test_tied_paragraphs_follow_their_first_and_leave_the_others(annotated):
    items = annotated[2]
    alone = split.assign(items, 0.25, 0.1, seed=0)
    names = sorted(alone)
    held = next(name for name in names if alone[name] == "test")
    other = next(name for name in names if name > held and alone[name] == "train")
    tied = split.assign(items, 0.25, 0.1, 0, {other: held, held: held})
    assert tied[other] == tied[held]
    moved = [name for name in names if tied[name] != alone[name]]
    assert len(moved) <= 3  # The one tied, and whoever takes the place it leaves in its stratum.


def test_the_threshold_parts_the_rephrased_from_the_related():
    asked, again = embed(list(REPHRASED), EMBEDDER), embed(list(REPHRASED.values()), EMBEDDER)
    assert np.einsum("ij,ij->i", asked, again).min() >= LEAK
    others = embed([*REPHRASED, *RELATED], EMBEDDER)
    assert np.triu(others @ others.T, 1).max() < LEAK
    left, right = embed([CLERK, CLERK_AGAIN], EMBEDDER)
    assert LEAK <= left @ right < 0.95


# ---- what falls, on made-up items ----


def dropped(items, cosine=0.95):
    vectors = embed([one.question for one in items], EMBEDDER)
    return split.drop_duplicates(items, vectors, cosine)[0]


def test_a_duplicate_falls_to_the_one_kept_before():
    asked = "What did you think of Marley when he was alive?"
    items = [
        item("a", question=asked),
        item("b", question="Where is the counting-house?"),
        item("c", question=f"{asked} ", stage="late"),
        item("d", question=asked, stage="late"),
    ]
    assert dropped(items) == {"c": "a", "d": "a"}
    # c would be the one kept, had a not come before it.
    assert dropped(items[1:]) == {"d": "c"}


def test_twins_are_no_duplicates_of_each_other_and_fall_together():
    asked = ["You let Bob stay home at Christmas, don't you?", "You let Bob stay at home at Christmas, don't you?"]
    false = item("f", pattern="false_premise", twin="t", question=asked[0])
    true = item("t", pattern="true_premise", twin="f", question=asked[1])
    other = item("z", question="Who is Belle?")
    assert dropped([false, other, true], 0.9) == {}
    far = dataclasses.replace(true, question="How often do you dine with your nephew?")
    fell = {"f": "a", "t": "a"}
    assert dropped([item("a", question=false.question), false, other, far]) == fell
    assert dropped([item("a", question=far.question), false, other, far]) == fell
    # A twin that fell with the other is nothing to fall to, whichever came first.
    late = item("b", question=false.question)
    assert dropped([item("a", question=far.question), false, other, far, late]) == fell


def test_near_duplicates_are_dropped_from_the_training_side_with_their_twins():
    asked = "What did you think of Marley when he was alive?"
    items = [
        item("a", "m1", question=asked),
        item("b", "m1", question="Where is the counting-house?"),
        item("c", "m2", question="What did you think of Marley when he was alive, sir?"),
        item("d", "m3", question="What did you think of Marley, when he was alive?"),
        item("f", "m1", "false_premise", "t", question="Marley's alive: what did you think of him?"),
        item("t", "m1", "true_premise", "f", question="How long is a piece of string?"),
    ]
    vectors = embed([one.question for one in items], EMBEDDER)
    part = {"m1": "train", "m2": "dev", "m3": "test"}
    found, recall = split.near_duplicates(items, part, vectors, LEAK)
    assert recall is None  # Exact.
    # What falls itself takes nothing along: a and f fall to d, which is kept, and not to c.
    assert found == {"a": "d", "c": "d", "f": "d", "t": "d"}
    assert split.near_duplicates(items, part, vectors, 1.0)[0] == {}


def test_what_fell_drops_nothing():
    """A dev twin falls with the other to a test question, and so a training question like it stays."""
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 1]]
    parts, twins = np.array([2, 0, 1, 1]), np.array([0, 1, 3, 2])
    assert duplicates.across(vectors, parts, twins, 0.9)[0].tolist() == [-1, -1, 0, 0]


def test_an_embedder_with_more_positions_than_tokens_fit(tmp_path):
    """RoBERTa's positions begin after the padding's number: a text of as many tokens as positions is too long."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    tokens = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "<unk>": 2, "fog": 3}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=tokens, model_max_length=18).save_pretrained(tmp_path)
    shape = RobertaConfig(vocab_size=4, max_position_embeddings=20, hidden_size=8, num_hidden_layers=1,
                          num_attention_heads=1, intermediate_size=8)  # fmt: skip
    RobertaModel(shape).save_pretrained(tmp_path)
    long, cut = embed(["fog " * 30, "fog " * 18], str(tmp_path))
    assert np.array_equal(long, cut)


# ---- the step, on a pack with planted near-duplicates ----


@pytest.fixture
def planted(lab, annotated, tmp_path):
    """Run the step on the first persona with planted ones; return a function of what is added to its inputs."""
    step, paragraphs, whole = annotated

    def run(more_paragraphs=(), more_items=(), items=whole, reanswers=None):
        ctx = lab.context(step, tmp_path / "planted")
        inputs = {}
        for role, folder in ctx.inputs.items():
            inputs[role] = tmp_path / role
            inputs[role].mkdir()
            for file in folder.iterdir():
                (inputs[role] / file.name).write_bytes(file.read_bytes())
        records.write(inputs["materials"] / "materials.jsonl", [*paragraphs, *more_paragraphs])
        records.write(inputs["annotate"] / "items.jsonl", [*items, *more_items])
        if reanswers is not None:
            records.write(inputs["annotate"] / "reanswers.jsonl", reanswers)
        split.run(dataclasses.replace(ctx, inputs=inputs))
        told = json.loads((ctx.out / "split.json").read_text())
        logged = json.loads((ctx.directory / "metrics.jsonl").read_text())
        return ctx.out, {name: split.read(ctx.out, name) for name in split.PARTS}, told, logged

    return run


def test_a_planted_paraphrase_of_a_held_out_question_is_caught(planted, parted, annotated):
    _, paragraphs, _ = annotated
    held = next(one for one in parted[1]["test"] if one.pattern == "knowledge")
    taught = next(one for one in parted[1]["train"] if one.stage == held.stage)
    words = held.question.rstrip("?.!")
    again = dataclasses.replace(held, id="planted", material_id=taught.material_id, question=f"Tell me, sir: {words}?")
    _, parts, told, logged = planted(more_items=[again])
    assert on_both_sides(parts, paragraphs) == set()
    fell = told["duplicates_dropped"] | told["near_duplicates_dropped"]
    assert "planted" in fell or held.id in fell or _side(parts, "planted") == _side(parts, held.id)
    assert logged["near_duplicates_dropped"] == len(told["near_duplicates_dropped"])


def _side(parts, name):
    return next((part for part, found in parts.items() if any(one.id == name for one in found)), None)


def test_a_planted_paraphrase_of_a_paragraph_goes_where_its_original_goes(planted, annotated):
    _, paragraphs, items = annotated
    original = next(m for m in paragraphs if m.text == CLERK)
    other = "late" if original.stage == "early" else "early"
    texts = {"x1": CLERK_AGAIN, "x2": f"{CLERK_AGAIN} Everybody knows it."}
    more = [dataclasses.replace(original, id=name, stage=other, kind="speech", text=t) for name, t in texts.items()]
    asked = next(one for one in items if one.material_id == original.id)
    later = dataclasses.replace(asked, id="planted", material_id="x1", stage=other, question="Is it cold in that cell?")
    out, parts, told, logged = planted(more, [later])
    assert told["paragraphs_tied"]["x1"] == told["paragraphs_tied"]["x2"]
    assert _side(parts, "planted") == _side(parts, asked.id) is not None
    assert on_both_sides(parts, [*paragraphs, *more]) == set()
    assert logged["paragraphs_tied"] == len(told["paragraphs_tied"])
    # No paragraph that may be trained on or looked up is like one of a held-out item, not even one without items.
    free = split.unheld(out, [*paragraphs, *more])
    held = {one.material_id for name in ("dev", "test") for one in parts[name]}
    left = [m.text for m in [*paragraphs, *more] if m.id in held]
    assert (embed([m.text for m in free], EMBEDDER) @ embed(left, EMBEDDER).T).max() < LEAK
    assert ({"x1", "x2"} & {m.id for m in free} == set()) == (original.id not in {m.id for m in free})


def test_a_planted_duplicate_falls_with_its_re_answers(planted, lab, annotated):
    step, _, items = annotated
    reanswers = records.read(Reanswer, lab.run(step.inputs["annotate"]) / "reanswers.jsonl")
    answered = {again.item_id for again in reanswers}
    # The first of its question takes the place of a later one that has a re-answer.
    late = next(one for one in items if one.stage != items[0].stage and one.id in answered and not one.premise_pair)
    first = dataclasses.replace(items[0], id="planted", premise_pair=None, pattern="opinion", question=late.question)
    out, parts, told, logged = planted(more_items=[first])
    assert told["duplicates_dropped"] == {late.id: "planted"}
    assert _side(parts, late.id) is None
    left = {again.item_id for again in split.read_reanswers(out)}
    assert late.id not in left
    assert (
        told["reanswers_dropped"]
        == logged["reanswers_dropped"]
        == len(reanswers) - len([again for again in reanswers if again.item_id in left])
    )
    assert logged["duplicates_dropped"] == 1


def test_re_answers_to_training_items_that_were_shown_held_paragraphs_are_counted(planted, parted, lab, annotated):
    step, paragraphs, _ = annotated
    free = {one.id for one in split.unheld(parted[0], paragraphs)}
    held = next(one.id for one in paragraphs if one.id not in free)
    reanswers = records.read(Reanswer, lab.run(step.inputs["annotate"]) / "reanswers.jsonl")
    trained = {one.id for one in parted[1]["train"]}
    mine = [one.item_id for one in reanswers if one.item_id in trained]
    others = [one.item_id for one in reanswers if one.item_id not in trained]
    shown = [
        dataclasses.replace(one, retrieved=[held] if one.item_id in {mine[0], mine[1], others[0]} else [])
        for one in reanswers
    ]
    _, _, told, logged = planted(reanswers=shown)
    assert told["train_reanswers_shown_held"] == logged["train_reanswers_shown_held"] == 2


def test_no_items_are_refused_in_words(planted):
    with pytest.raises(UserError, match="has no items to split; annotate some"):
        planted(items=[])


def test_an_empty_part_is_refused(lab):
    with pytest.raises(AssertionError, match=r"part of scrooge is empty; its items must be of more paragraphs"):
        lab.run(lab.cell("prompt_none", "split.leak_cosine=0.01").generate.inputs["split"])


def test_the_default_threshold_is_the_one_that_was_measured():
    assert split.__doc__ is not None
    assert re.search(rf"``leak_cosine`` is {LEAK} by measurement", split.__doc__)
