"""Generation: batches, padding, seeds, and a step that was killed."""

import dataclasses
import json
import random
import signal

import pytest
import torch

from persllm import execute, records
from persllm.answer import parse, prefix, render
from persllm.decoding import generate_all, generate_batch, plan_batches
from persllm.language_model import chat_ids
from persllm.steps import generate
from persllm.steps.general import _whole_sentences

pytestmark = pytest.mark.pipeline

GREEDY = {"max_new_tokens": 16, "temperature": 0.0, "top_p": 1.0, "batch_size": 4}
WARM = GREEDY | {"temperature": 1.0, "top_p": 0.9}


@pytest.fixture(scope="module")
def prompts(lab):
    rng = random.Random(5)
    questions = ["Who are you? " * rng.randint(1, 9) + str(n) for n in range(11)]
    return [chat_ids(lab.tokenizer, [{"role": "user", "content": question}]) for question in questions]


@pytest.fixture(scope="module")
def model(lab):
    return lab.base()


def everything(model, lab, prompts, config, seed=0, done=()):
    found = {}
    for batch, replies in generate_all(model, lab.tokenizer, prompts, config, seed, set(done), lambda count: None):
        found |= dict(zip(batch, [(r.text, r.tokens, r.finish_reason) for r in replies], strict=True))
    return [found.get(i) for i in range(len(prompts))]


def test_batches_hold_each_prompt_once_longest_first():
    lengths = [5, 90, 5, 33, 70, 5, 12]
    batches = plan_batches(lengths, 3)
    assert batches == [[1, 4, 3], [6, 0, 2], [5]]
    assert plan_batches(lengths, 3) == batches


def test_left_padding_changes_no_greedy_token(model, lab, prompts):
    """Each prompt's reply in a mixed batch is its reply alone, and that of transformers without any padding."""
    together = everything(model, lab, prompts, GREEDY)
    assert together == everything(model, lab, prompts, GREEDY | {"batch_size": 1})
    for prompt, (text, _, _) in zip(prompts, together, strict=True):
        out = model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0, len(prompt) :]
        assert lab.tokenizer.decode(out, skip_special_tokens=True).strip() == text
    assert len({text for text, _, _ in together}) > 5


def test_sampling_is_fixed_by_its_seed(model, lab, prompts):
    one = everything(model, lab, prompts, WARM, seed=1)
    torch.rand(10)
    assert everything(model, lab, prompts, WARM, seed=1) == one
    assert everything(model, lab, prompts, WARM, seed=2) != one
    assert one != everything(model, lab, prompts, GREEDY)


def test_batches_draw_different_numbers(model, lab, prompts):
    """The same prompt in two batches is not answered twice alike."""
    first, second = everything(model, lab, [prompts[0]] * 2, WARM | {"batch_size": 1}, seed=1)
    assert first != second


def test_batches_that_are_done_are_skipped_and_others_repeated(model, lab, prompts):
    whole = everything(model, lab, prompts, WARM, seed=1)
    batches = plan_batches([len(p) for p in prompts], 4)
    done = {*batches[0], *batches[2][:1]}
    part = everything(model, lab, prompts, WARM, seed=1, done=done)
    assert [i for i, made in enumerate(part) if made is None] == sorted(batches[0])
    assert all(made in (None, whole[i]) for i, made in enumerate(part))


def test_a_reply_ends_at_the_end_of_its_turn(lab, prompts):
    class Ending(torch.nn.Module):
        """Makes the end-of-turn token certain from the fourth new token on."""

        def __init__(self, start, end):
            super().__init__()
            self.start, self.end = start, end

        def forward(self, module, args, output):
            rows = torch.full_like(output, -1e9)
            rows[..., self.end] = 0.0
            self.seen = getattr(self, "seen", 0) + 1
            return rows if self.seen > 3 else output

    model = lab.base()
    model.lm_head.register_forward_hook(Ending(3, lab.tokenizer.eos_token_id).forward)
    (reply,) = generate_batch(model, lab.tokenizer, prompts[:1], GREEDY, 0)
    assert (reply.finish_reason, reply.tokens) == ("stop", 3)
    (reply,) = generate_batch(lab.base(), lab.tokenizer, prompts[:1], GREEDY, 0)
    assert (reply.finish_reason, reply.tokens) == ("length", 16)


def test_answers_are_parsed_as_they_are_rendered():
    assert parse(render("He asks.", "Humbug."), analyses=True) == ("He asks.", "Humbug.")
    assert parse(render(None, " Humbug. "), analyses=False) == (None, "Humbug.")
    assert render("He asks.", "Humbug.") == prefix("He asks.") + "Humbug."
    assert prefix(None) == ""


@pytest.mark.parametrize(
    ("text", "analyses", "expected"),
    [
        ("[Analysis] never ends", True, ("never ends", None)),
        ("[Analysis] ends\n[Response]\n", True, ("ends", None)),
        ("no marks at all", True, ("no marks at all", None)),
        ("", False, (None, None)),
        ("[Response] is a word like any other", False, (None, "[Response] is a word like any other")),
    ],
)
def test_a_broken_answer_is_missing(text, analyses, expected):
    assert parse(text, analyses) == expected


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two. Thr", "One. Two."),
        ("One.", "One."),
        ("nothing whole", ""),
        ("Really? Yes! An", "Really? Yes!"),
        ("It costs 3.5 pence. And th", "It costs 3.5 pence."),
        ("So:\n1. Rest.\n2. Eat well.\n3.", "So:\n1. Rest.\n2. Eat well."),
    ],
)
def test_a_cut_general_answer_ends_with_a_sentence(text, kept):
    assert _whole_sentences(text) == kept


# ---- the step ----


def rows(ctx):
    """Return the step's generations, apart from what they took."""
    return [dataclasses.replace(row, seconds=0.0) for row in generate.read(ctx.out)]


@pytest.fixture(scope="module")
def step(lab):
    return lab.cell("prompt_name", "generate=sample", "generate.max_new_tokens=8", "generate.batch_size=5").generate


@pytest.fixture(scope="module")
def whole(lab, step, tmp_path_factory):
    ctx = lab.context(step, tmp_path_factory.mktemp("generate") / "whole")
    generate.run(ctx)
    return ctx


def test_every_held_out_item_is_answered(whole):
    items = generate.split.read(whole.inputs["split"], "test")
    made = generate.read(whole.out)
    assert [row.item_id for row in made] == [item.id for item in items]
    prompts = generate.read_prompts(whole.out)
    assert all(row.prompt_tokens == len(prompts[row.item_id][1]) for row in made)
    assert all(row.response is not None or row.finish_reason == "no_response" for row in made)
    assert len(made) > 10


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("torn", [0, 20])
def test_a_killed_step_goes_on_and_ends_the_same(lab, step, whole, tmp_path, monkeypatch, batches, torn):
    """Stopped after some batches, its last line torn: the rest is made anew, what is there is kept."""
    ctx = lab.context(step, tmp_path / "killed")
    calls = []
    real = generate.generate_all

    def ending(*args):
        for number, made in enumerate(real(*args)):
            calls.append(len(made[0]))
            yield made
            if number + 1 == batches:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "generate_all", ending)
        with pytest.raises(KeyboardInterrupt):
            generate.run(ctx)
    stream = ctx.work / "generations.jsonl"
    text = stream.read_text(encoding="utf-8")
    assert len(text.split()) > 5
    stream.write_text(text[: len(text) - torn], encoding="utf-8")
    calls.clear()
    monkeypatch.setattr(generate, "generate_all", lambda *args: (calls.append(len(b[0])) or b for b in real(*args)))
    generate.run(ctx)
    assert rows(ctx) == rows(whole)
    assert (ctx.out / "prompts.jsonl").read_bytes() == (whole.out / "prompts.jsonl").read_bytes()
    total = len(rows(whole))
    assert sum(calls) == total - 5 * (batches - bool(torn))


def test_a_stop_is_heard_between_batches(lab, step, tmp_path, monkeypatch):
    ctx = lab.context(step, tmp_path / "stopped")
    monkeypatch.setattr("persllm.stop._stopped_by", signal.SIGTERM)
    with pytest.raises(execute.Interrupted):
        generate.run(ctx)
    lines = [line for line in (ctx.work / "generations.jsonl").read_text(encoding="utf-8").split("\n") if line]
    assert len(lines) == 5
    assert all(records.parse(records.Generation, json.loads(line), "here") for line in lines)


def test_a_prompt_that_leaves_no_room_is_refused(lab):
    with pytest.raises(AssertionError, match=r"raise model\.max_length"):
        lab.run(lab.cell("prompt_name", "model.max_length=70").generate)
