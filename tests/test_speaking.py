"""An arm of several passes: what it is asked in each, what they cost, and that an interrupted step repeats them."""

import dataclasses
import json

import pytest

from persllm import records
from persllm.asking import hold
from persllm.errors import UserError
from persllm.probes import Probe
from persllm.prompting import further
from persllm.scoring import log_likelihoods
from persllm.speaking import Asked, Speaker
from persllm.steps import evaluate, generate, split

pytestmark = pytest.mark.pipeline

WORDS = ("generate=sample", "generate.max_new_tokens=6", "generate.batch_size=5")


@pytest.fixture(scope="module")
def step(lab):
    return lab.cell("prompt_self_refine", *WORDS).generate


@pytest.fixture(scope="module")
def whole(lab, step, tmp_path_factory):
    ctx = lab.context(step, tmp_path_factory.mktemp("refine") / "whole")
    generate.run(ctx)
    return ctx


@pytest.fixture(scope="module")
def speaker(lab, step, whole):
    return Speaker(lab.base(), lab.tokenizer, generate.prompt_source(whole), step.config)


def rows(ctx):
    return [dataclasses.replace(row, seconds=0.0) for row in generate.read(ctx.out)]


def test_draft_and_criticism_stand_in_the_prompt_of_the_reply(speaker):
    asked = [Asked("late", "What of Christmas?", []), Asked("early", "Who was Marley to you, and who is he now?", [])]
    made = speaker.compose(asked, 3)
    first = [speaker.prompt(*one) for one in asked]
    drafts = speaker.speak([one.ids for one in first], 3 + 500_009)
    for one, start, draft, prompt in zip(asked, first, drafts, made, strict=True):
        requests = further(speaker.source, one.stage, one.question)
        assert prompt.messages[: len(start.messages)] == start.messages
        told, judge, criticism, mend = prompt.messages[len(start.messages) :]
        assert told == {"role": "assistant", "content": draft.text}
        assert [judge["content"], mend["content"]] == requests
        assert criticism["role"] == "assistant"
        assert one.question in mend["content"]
        assert speaker.source.card.stages[one.stage].label in judge["content"]
    assert made[0].messages[4] != made[1].messages[4]


def test_every_pass_is_paid_for(speaker):
    (prompt,) = speaker.compose([Asked("late", "What of Christmas?", [])], 3)
    # Draft and criticism: the prompts of both are read, and the reply's own.
    start = speaker.prompt("late", "What of Christmas?")
    second = speaker._fitting(prompt.messages[:4])
    assert prompt.prompt_tokens == len(start.ids) + len(second.ids) + len(prompt.ids)
    assert 2 <= prompt.tokens <= 12
    assert prompt.seconds > 0


def test_earlier_turns_stand_before_the_question_in_every_pass(speaker):
    before = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Scrooge."}]
    (prompt,) = speaker.compose([Asked("late", "What of Christmas?", before)], 0)
    assert prompt.messages[1:3] == before
    assert [m["role"] for m in prompt.messages] == ["system", *["user", "assistant"] * 3, "user"]


def test_arms_of_one_pass_spend_nothing_beforehand(lab, whole):
    config = lab.cell("prompt_profile", *WORDS).generate.config
    plain = Speaker(lab.base(), lab.tokenizer, generate.prompt_source(whole), config)
    plain = dataclasses.replace(plain, source=dataclasses.replace(plain.source, config=config["prompt"]))
    (prompt,) = plain.compose([Asked("late", "Why?", [])], 0)
    assert prompt == plain.prompt("late", "Why?")
    assert (prompt.prompt_tokens, prompt.tokens, prompt.seconds) == (len(prompt.ids), 0, 0.0)


def test_passes_that_outgrow_the_context_are_refused(lab, speaker):
    model = lab.base()
    alone = len(speaker.prompt("late", "Why?").ids)
    model.config.max_position_embeddings = alone + 40
    narrow = dataclasses.replace(speaker, model=model)
    assert narrow.prompt("late", "Why?").ids
    with pytest.raises(UserError, match="a prompt of prompt_self_refine has"):
        narrow.compose([Asked("late", "Why?", [])], 0)


def test_passes_that_outgrow_the_context_forget_the_oldest_turns(lab, speaker):
    """The first prompt holds all that was said before; with the draft, less of it fits."""
    model, said = lab.base(), [f"{number} {'why ' * 20}" for number in range(6)]
    narrow = dataclasses.replace(speaker, model=model)
    before = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    asked = Asked("late", "Why?", before)
    (alone,) = narrow.compose([Asked("late", "Why?", [])], 0)
    model.config.max_position_embeddings = narrow.config["generate"]["max_new_tokens"] + len(alone.ids) + 100
    start = narrow.prompt(*asked)
    assert start.forgotten == 0
    (prompt,) = narrow.compose([asked], 0)
    assert prompt.forgotten in (1, 2, 3)
    assert len(prompt.ids) <= narrow.room
    (first, last), head = prompt.earlier, start.messages[: start.earlier[0]]
    assert prompt.messages[:first] == head
    assert prompt.messages[first:last] == before[2 * prompt.forgotten :]
    assert prompt.messages[last]["content"] == start.messages[-1]["content"]
    assert len(prompt.messages) == last + 5


def test_the_kept_prompt_is_the_last_one_and_the_cost_is_of_all(whole):
    prompts = generate.read_prompts(whole.out)
    for row in generate.read(whole.out):
        messages, ids = prompts[row.item_id]
        assert len(messages) == 6
        assert len(ids) < row.prompt_tokens
        assert row.tokens <= 3 * 6


def test_probes_are_answered_and_weighed_after_the_passes(speaker):
    fields = {"id": "a", "stage": "late", "cluster": "a", "turns": ["Who are you?", "Why?"]}
    asked = Probe(**fields, options=[[], ["Scrooge.", "A kettle."]])
    (told,) = hold(speaker, [(asked, 0)], 5)
    before = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": told.replies[0] or ""}]
    (first,) = speaker.compose([Asked("late", "Who are you?", [])], 5 * 1009)
    (second,) = speaker.compose([Asked("late", "Why?", before)], 5 * 1009 + 1)
    assert told.prompt_tokens == first.prompt_tokens + second.prompt_tokens
    assert told.tokens > first.tokens + second.tokens > 0
    weighed = log_likelihoods(speaker.model, second.ids, [speaker.ids(text) for text in asked.options[1]])
    assert [total for total, _ in told.likelihoods[1]] == pytest.approx(weighed, abs=1e-3)


@pytest.mark.parametrize("torn", ["prompts.jsonl", "generations.jsonl"])
def test_a_killed_step_goes_on_and_ends_the_same(lab, step, whole, tmp_path, monkeypatch, torn):
    ctx = lab.context(step, tmp_path / "killed")
    real = generate.answers

    def ending(*args):
        for number, made in enumerate(real(*args)):
            yield made
            if number:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "answers", ending)
        with pytest.raises(KeyboardInterrupt):
            generate.run(ctx)
    kept = ctx.work / torn
    kept.write_text(kept.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    generate.run(ctx)
    assert rows(ctx) == rows(whole)
    assert (ctx.out / "prompts.jsonl").read_bytes() == (whole.out / "prompts.jsonl").read_bytes()


def test_the_gold_answer_is_scored_after_the_draft_and_its_criticism(lab, tmp_path):
    step = lab.cell("prompt_self_refine", *WORDS, "evaluate.metrics=[likelihood]").evaluate
    ctx = lab.context(step, tmp_path / "evaluate")
    evaluate.run(ctx)
    prompts = generate.read_prompts(ctx.inputs["generate"])
    (item,) = split.read(ctx.inputs["split"], "test")[:1]
    answer = lab.tokenizer(item.response, add_special_tokens=False)["input_ids"]
    (gold,) = log_likelihoods(lab.base(), prompts[item.id][1], [answer])
    found = {
        row["item_id"]: row for _, row in records.read_json_lines(ctx.out / "options.jsonl") if row["kind"] == "gold"
    }
    assert found[item.id]["log_likelihood"] == pytest.approx(gold, abs=1e-4)
    assert json.dumps(prompts[item.id][0]).count("assistant") >= 2
