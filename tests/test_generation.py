"""Generation: batches, padding, seeds, and a step that was killed."""

import dataclasses
import json
import random
import signal

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from persllm import execute, prefixes, records
from persllm.answer import parse, prefix, render
from persllm.decoding import generate_all, generate_batch, plan_alike, plan_batches
from persllm.errors import UserError
from persllm.language_model import chat_ids
from persllm.steps import generate
from persllm.steps.general import _whole_sentences
from persllm.training.adapters import inner

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


@pytest.mark.parametrize(
    "plan", [plan_batches, lambda lengths, n: plan_alike([[i] * m for i, m in enumerate(lengths)], n)]
)
def test_batches_hold_each_prompt_once_longest_first(plan):
    lengths = [5, 90, 5, 33, 70, 5, 12]
    batches = plan(lengths, 3)
    assert batches == [[1, 4, 3], [6, 0, 2], [5]]
    assert plan(lengths, 3) == batches


def test_prompts_that_begin_alike_make_a_batch():
    """Two stages by turns, each with a message of its own behind a few common words: no batch holds both."""
    rng = random.Random(2)
    messages = [[1, 2, 3, stage, *(rng.randrange(700) for _ in range(60))] for stage in (4, 5)]
    prompts = [messages[i % 2] + [rng.randrange(700) for _ in range(rng.randint(2, 30))] for i in range(14)]
    batches = plan_alike(prompts, 4)
    assert sorted(i for batch in batches for i in batch) == list(range(14))
    assert [len({i % 2 for i in batch}) for batch in batches] == [1, 1, 1, 1]
    longest = [max(len(prompts[i]) for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_left_padding_changes_no_greedy_token(model, lab, prompts):
    """Each prompt's reply in a mixed batch is its reply alone, and that of transformers without any padding."""
    together = everything(model, lab, prompts, GREEDY)
    assert together == everything(model, lab, prompts, GREEDY | {"batch_size": 1})
    for prompt, (text, _, _) in zip(prompts, together, strict=True):
        out = model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0, len(prompt) :]
        assert lab.tokenizer.decode(out, skip_special_tokens=True).strip() == text
    assert len({text for text, _, _ in together}) > 5


@pytest.fixture(scope="module")
def long_prompts():
    rng = random.Random(9)
    begin = [rng.randrange(5, 700) for _ in range(150)]
    return [begin + [rng.randrange(5, 700) for _ in range(n)] for n in (40, 7, 7, 1, 22)]


def unshared(model, lab, prompts, config, monkeypatch):
    """Return the replies that are made without sharing."""
    with monkeypatch.context() as patch:
        patch.setattr(prefixes, "WORTH", 10**9)
        return texts(model, lab, prompts, config)


def texts(model, lab, prompts, config, seed=3):
    return [(r.text, r.tokens) for r in generate_batch(model, lab.tokenizer, prompts, config, seed)]


def tuned(lab):
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(lab.base(), config).eval()


@pytest.mark.parametrize("scores", [1, 2**24], ids=["row by row", "at once"])
@pytest.mark.parametrize("adapter", [False, True], ids=["base", "adapter"])
def test_a_shared_prefix_changes_no_greedy_token(lab, long_prompts, monkeypatch, adapter, scores):
    model = tuned(lab) if adapter else lab.base()
    monkeypatch.setattr(prefixes, "_SCORES", scores)
    plain = unshared(model, lab, long_prompts, GREEDY, monkeypatch)
    assert texts(model, lab, long_prompts, GREEDY) == plain
    # Afterwards the model attends as before.
    assert unshared(model, lab, long_prompts, GREEDY, monkeypatch) == plain
    assert len({text for text, _ in plain}) > 3
    assert (unshared(lab.base(), lab, long_prompts, GREEDY, monkeypatch) == plain) != adapter


def test_a_shared_prefix_changes_no_sample(model, lab, long_prompts, monkeypatch):
    made = texts(model, lab, long_prompts, WARM)
    assert made == texts(model, lab, long_prompts, WARM)
    assert made == unshared(model, lab, long_prompts, WARM, monkeypatch)
    assert made != texts(model, lab, long_prompts, WARM, seed=4)


def test_a_shared_prefix_is_read_once_and_kept_once(lab, long_prompts, monkeypatch):
    model, read, kept = lab.base(), [], []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: read.append(tuple(inputs[0].shape)))
    real = prefixes.behind
    monkeypatch.setattr(prefixes, "behind", lambda *args: kept.append(args) or real(*args))
    texts(model, lab, long_prompts, GREEDY)
    assert read[:2] == [(1, 150), (5, 40)]
    ((_, layers, room),) = kept
    assert {tuple(keys.shape) for keys, _ in layers} == {(1, 2, 150, 16)}
    assert room == 40 + GREEDY["max_new_tokens"]


@pytest.mark.parametrize("window", [16, None])
def test_a_sliding_window_reads_prompts_unshared(lab, long_prompts, monkeypatch, window):
    torch.manual_seed(4)
    config = MistralConfig(
        vocab_size=len(lab.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        initializer_range=0.2,
    )
    model = MistralForCausalLM(config).eval()
    plain = unshared(model, lab, long_prompts, GREEDY, monkeypatch)
    read = []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: read.append(tuple(inputs[0].shape)))
    assert texts(model, lab, long_prompts, GREEDY) == plain
    assert (read[0] == (5, 190)) == bool(window)


@pytest.mark.parametrize("adapter", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("config", [GREEDY, WARM], ids=["greedy", "warm"])
def test_nothing_is_inherited_from_the_model_folder(lab, prompts, long_prompts, config, adapter):
    model = tuned(lab) if adapter else lab.base()
    plain = texts(model, lab, prompts[:3], config), texts(model, lab, long_prompts, config)
    own = inner(model).generation_config
    own.update(
        repetition_penalty=5.0, no_repeat_ngram_size=1, suppress_tokens=list(range(5, 400)), top_k=1, num_beams=2
    )
    assert (texts(model, lab, prompts[:3], config), texts(model, lab, long_prompts, config)) == plain
    assert inner(model).generation_config is own


def test_attention_that_asks_for_more_is_refused():
    query = torch.randn(1, 2, 1, 4)
    rest = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4), torch.zeros(1, 1, 1, 3)
    module = torch.nn.Identity()
    module.layer_idx = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "_current", [(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4))])
        plain, _ = prefixes._attend(module, query, *rest)
        assert torch.equal(prefixes._attend(module, query, *rest, dropout=0.0, sliding_window=None)[0], plain)
        for asked in ({"s_aux": torch.zeros(2)}, {"sliding_window": 8}, {"dropout": 0.1}):
            with pytest.raises(UserError, match=f"Identity asks attention for {next(iter(asked))}"):
                prefixes._attend(module, query, *rest, **asked)


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
    batches = plan_alike(prompts, 4)
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
    real = generate.answers

    def ending(*args):
        for number, made in enumerate(real(*args)):
            calls.append(len(made[0]))
            yield made
            if number + 1 == batches:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate, "answers", ending)
        with pytest.raises(KeyboardInterrupt):
            generate.run(ctx)
    stream = ctx.work / "generations.jsonl"
    text = stream.read_text(encoding="utf-8")
    assert len(text.split()) > 5
    stream.write_text(text[: len(text) - torn], encoding="utf-8")
    calls.clear()
    monkeypatch.setattr(generate, "answers", lambda *args: (calls.append(len(b[0])) or b for b in real(*args)))
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


def test_a_prompt_may_be_as_long_as_the_context_and_no_longer(lab, step, tmp_path, monkeypatch):
    """Not as model.max_length, which is of training and of a conversation's earlier turns."""
    short = lab.cell("prompt_name", "model.max_length=70").generate
    lab.run(short)
    loaded = generate.load_arm

    def narrow(*args):
        model, tokenizer = loaded(*args)
        model.config.max_position_embeddings = 70
        return model, tokenizer

    monkeypatch.setattr(generate, "load_arm", narrow)
    with pytest.raises(UserError, match=r"a prompt of prompt_name has \d+ tokens; the context .* leaves 62: lower"):
        generate.run(lab.context(step, tmp_path / "narrow"))
