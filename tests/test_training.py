"""Training on the tiny model, through the step that the pipeline runs."""

import copy
import gc
import json
import math

import pytest
import tiny as tiny_module
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from persllm.answer import ANALYSIS
from persllm.decoding import generate_batch
from persllm.language_model import load_tuned
from persllm.prompting import GENERIC, build, stage_token
from persllm.steps import general, materials, pairs, split, train
from persllm.training import fitting
from persllm.training import setup as training_setup
from persllm.training.adapters import attach, inner, verify_export
from persllm.training.batch import collate, completion_log_probs, row_sums
from persllm.training.data import Encoder, prompt_source
from persllm.training.losses import dpo_loss, sft_loss
from persllm.training.module import Personifier
from persllm.training.setup import Batches, prepare

pytestmark = pytest.mark.pipeline

QUICK = ["method.tune.repeat=1", "method.tune.analysis=false", "method.tune.general=false"]
QUICK += ["method.tune.reanswers=false", "method.tune.materials=false"]
OBJECTIVES = pytest.mark.parametrize(("objective", "name"), [(0, "sft"), (1, "dpo")])


@pytest.fixture
def trained(monkeypatch):
    """The models that train steps exported, latest last."""
    found = []
    real = fitting.export

    def keeping(model, *args):
        real(model, *args)
        found.append(model)

    monkeypatch.setattr(fitting, "export", keeping)
    return found


def setup(lab, tmp_path, *more, method="persllm"):
    """Return a train step's context, and its model and data as it would begin with them."""
    ctx = lab.context(lab.cell(method, *more).train[0], tmp_path / f"setup{len(list(tmp_path.iterdir()))}")
    return ctx, prepare(ctx, str(lab.model), False)


def logits(model, ids):
    with torch.no_grad():
        return inner(model).eval()(input_ids=torch.tensor([ids])).logits


# ---- losses ----


@OBJECTIVES
def test_one_by_one_with_accumulation_equals_all_at_once(lab, tmp_path, objective, name):
    """Micro-batch 1 x accumulation 8 equals 8 x 1, at every step and in the weights."""
    size = f"method.tune.{name}.batch_size=8"
    rows, saved = [], []
    for micro in (1, 8):
        ctx = lab.train(
            tmp_path / str(micro), "persllm", *QUICK, size, f"strategy.micro_batch={micro}", objective=objective
        )
        rows.append(tiny_module.curves(ctx))
        saved.append(load_file(ctx.out / "adapter" / "adapter_model.safetensors"))
    assert len(rows[0]) == len(rows[1]) >= 2
    for one, all_ in zip(*rows, strict=True):
        assert one["loss"] == pytest.approx(all_["loss"], abs=1e-5)
        assert one["val_loss"] == pytest.approx(all_["val_loss"], abs=1e-5)
        assert one["learning_rate"] == all_["learning_rate"]
    for key in saved[0]:
        assert torch.allclose(saved[0][key], saved[1][key], atol=1e-5), key


def test_loss_is_that_of_transformers_with_masked_labels(lab):
    """Prompt and padding carry no loss: the mean over the other tokens, computed independently."""
    model = lab.base()
    encoder = Encoder(lab.tokenizer, 500)
    sequences = [encoder.encode([{"role": "user", "content": "Who?" * n}], "I, myself." * n) for n in (1, 4, 2)]
    batch = collate(sequences, lab.tokenizer.pad_token_id, sum(len(s.completion) for s in sequences))
    labels = batch.input_ids.masked_fill(batch.loss_mask == 0, -100)
    expected = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
    assert float(sft_loss(completion_log_probs(model, batch)[0], batch).detach()) == pytest.approx(
        float(expected.detach()), abs=1e-6
    )


def test_only_the_answer_and_the_end_of_turn_carry_loss(lab):
    encoder = Encoder(lab.tokenizer, 500)
    messages = [{"role": "system", "content": "You are X."}, {"role": "user", "content": "Who?"}]
    batch = collate([encoder.encode(messages, "I, myself."), encoder.encode(messages, "No.")], 0, 1)
    for row, answer in enumerate(("I, myself.", "No.")):
        assert lab.tokenizer.decode(batch.input_ids[row][batch.loss_mask[row] == 1]) == f"{answer}<|end|>"
    assert batch.prompt_group.tolist() == [0, 0]


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_masked_positions_have_no_gradient(lab, objective):
    model = lab.base()
    encoder = Encoder(lab.tokenizer, 500)
    sequences = [
        encoder.encode([{"role": "user", "content": "Who?" * (1 + n // 2)}], "I, myself." * (1 + n)) for n in range(4)
    ]
    batch = collate(sequences, 0, 2, reference=[-50.0] * 4)
    kept = []

    def keep(module, args, output):
        output.last_hidden_state.retain_grad()
        kept.append(output.last_hidden_state)

    model.get_decoder().register_forward_hook(keep)
    values, rows = completion_log_probs(model, batch)
    loss = sft_loss(values, batch) if objective == "sft" else dpo_loss(values, rows, batch, 0.1, 0.2)
    loss.backward()
    moved = kept[0].grad.abs().sum(-1) > 0
    # The state at t predicts the token at t + 1.
    predicts = torch.nn.functional.pad(batch.loss_mask[:, 1:], (0, 1)) == 1
    assert torch.equal(moved, predicts)


def test_what_stands_in_the_padding_changes_nothing(lab):
    model = lab.base()
    encoder = Encoder(lab.tokenizer, 500)
    batch = collate([encoder.encode([{"role": "user", "content": "Who?"}], "I." * n) for n in (1, 9)], 0, 1)
    before = completion_log_probs(model, batch)[0]
    other = copy.copy(batch)
    other.input_ids = torch.where(batch.attention_mask == 1, batch.input_ids, 77)
    assert not torch.equal(other.input_ids, batch.input_ids)
    assert torch.equal(completion_log_probs(model, other)[0], before)


def test_a_long_answer_is_cut_and_counted(lab):
    encoder = Encoder(lab.tokenizer, 64)
    sequence = encoder.encode([{"role": "user", "content": "Who?"}], "I, myself. " * 40)
    assert len(sequence) == 64
    assert encoder.cut == 1
    encoder.encode([{"role": "user", "content": "Who?"}], "I.")
    assert encoder.cut == 1


# ---- the adapter starts as the prompted base ----


def test_a_fresh_adapter_is_the_prompted_base(lab, tmp_path):
    _, made = setup(lab, tmp_path, *QUICK)
    ids = made.train[0][0].prompt
    assert any("lora_B" in name for name, _ in made.model.named_parameters())
    assert torch.equal(logits(made.model, ids), logits(lab.base(), ids))
    prompts = [unit[0].prompt for unit in made.train[:3]]
    decoding = {"max_new_tokens": 12, "temperature": 0.0, "top_p": 1.0}
    told = [[r.text for r in generate_batch(m, lab.tokenizer, prompts, decoding, 0)] for m in (made.model, lab.base())]
    assert told[0] == told[1]


def test_only_the_adapter_is_trained(lab, tmp_path):
    _, made = setup(lab, tmp_path, *QUICK)
    names = [name for name, p in made.model.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    layers = {name.split(".")[-4] for name in names}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


# ---- DPO ----


def log_probs(model, units):
    """Return each completion's log-probability by a plain forward of one sequence at a time."""
    found = []
    for unit in units:
        row = []
        for sequence in unit:
            ids = torch.tensor(sequence.prompt + sequence.completion)
            rows = torch.log_softmax(logits(model, ids.tolist())[0], -1)
            start = len(sequence.prompt)
            row.append(float(rows[torch.arange(start - 1, len(ids) - 1), ids[start:]].sum()))
        found.append(row)
    return found


def test_dpo_begins_at_ln_2_from_one_reference(lab, tmp_path, monkeypatch):
    calls, models = [], []
    real, configure = Batches.refer, Personifier.configure_optimizers

    def counting(self, forward):
        calls.append(len(self.units))
        real(self, forward)

    def alive():
        gc.collect()
        return sum(type(thing) is LlamaForCausalLM for thing in gc.get_objects())

    def watching(self):
        models.append(alive())
        return configure(self)

    monkeypatch.setattr(Batches, "refer", counting)
    monkeypatch.setattr(Personifier, "configure_optimizers", watching)
    step = lab.cell("persllm", *QUICK, "method.tune.dpo.nll_weight=0", "method.tune.dpo.batch_size=4").train[1]
    ctx = lab.context(step, tmp_path / "dpo")
    before = alive()
    train.run(ctx)
    first, *rest = tiny_module.curves(ctx)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert any(abs(row["loss"] - math.log(2)) > 1e-4 for row in rest)
    assert len(calls) == 2  # the training pairs and the held-out ones, each once
    assert models == [before + 1]  # the policy, and no second model that stays frozen

    # The reference is what a frozen copy of the SFT model says, also now that training went on.
    frozen, _ = load_tuned(ctx.inputs["sft"], str(lab.model), ctx.config["model"])
    made = prepare(ctx, str(lab.model), False)
    kept = json.loads((ctx.work / "reference.json").read_text())
    assert torch.allclose(torch.tensor(kept[0]), torch.tensor(log_probs(frozen, made.train)), atol=1e-3)
    policy, _ = load_tuned(ctx.out, str(lab.model), ctx.config["model"])
    assert not torch.allclose(torch.tensor(kept[0]), torch.tensor(log_probs(policy, made.train)), atol=1e-2)

    # Run again, the reference is taken from the work folder.
    calls.clear()
    train.run(ctx)
    assert calls == []


def test_dpo_loss_by_hand(lab):
    encoder = Encoder(lab.tokenizer, 500)
    messages = [{"role": "user", "content": "Who?"}]
    batch = collate([encoder.encode(messages, t) for t in ("I.", "No, no.")], 0, 1, reference=[-8.0, -30.0])
    values, rows = completion_log_probs(lab.base(), batch)
    chosen, rejected = row_sums(values, rows, 2).tolist()
    margin = 0.1 * ((chosen + 8.0) - (rejected + 30.0))
    length = int(batch.loss_mask[0].sum())
    expected = math.log(1 + math.exp(-margin)) + 0.2 * -chosen / length
    assert float(dpo_loss(values, rows, batch, 0.1, 0.2).detach()) == pytest.approx(expected, abs=1e-5)


# ---- the switches ----


def decoded(lab, made):
    return [lab.tokenizer.decode(unit[0].prompt + unit[0].completion) for unit in made.train]


def test_switches_change_what_is_learned(lab, tmp_path):
    ctx, made = setup(lab, tmp_path, *QUICK)
    items = split.read(ctx.inputs["split"], "train")
    premises = sum(item.premise_pair is not None for item in items)
    base = decoded(lab, made)
    assert len(base) == len(items)
    assert premises > 10
    assert not any(ANALYSIS in text for text in base)

    _, made = setup(lab, tmp_path, *QUICK, "method.tune.analysis=true")
    assert all(f"{ANALYSIS}{item.analysis}" in text for item, text in zip(items, decoded(lab, made), strict=True))
    # Learned, not merely shown.
    first = made.train[0][0]
    assert lab.tokenizer.decode(first.completion).startswith(ANALYSIS)

    _, made = setup(lab, tmp_path, *QUICK, "method.tune.anti_induction=false")
    assert len(made.train) == len(items) - premises
    left_out = {item.response for item in items if item.premise_pair is not None}
    assert not any(response in text for response in left_out for text in decoded(lab, made))

    _, made = setup(lab, tmp_path, *QUICK, "method.tune.repeat=3")
    assert decoded(lab, made) == base * 3

    _, made = setup(lab, tmp_path, *QUICK, "method.tune.materials=true")
    _, paragraphs = materials.read(ctx.inputs["materials"])
    free = split.unheld(ctx.inputs["split"], paragraphs)
    assert 20 < len(free) < len(paragraphs)
    assert len(made.train) == len(items) + len(free)
    for paragraph, text in zip(free, decoded(lab, made)[len(items) :], strict=True):
        assert paragraph.text in text

    _, made = setup(lab, tmp_path, *QUICK, "method.tune.reanswers=true")
    again = {r.item_id: r for r in split.read_reanswers(ctx.inputs["split"])}
    told = [again[item.id].response for item in items if item.id in again]
    assert len(told) > 10
    assert len(made.train) == len(items) + len(told)
    for response, text in zip(told, decoded(lab, made)[len(items) :], strict=True):
        assert text.endswith(f"<|assistant|>{response}<|end|>")

    ctx, made = setup(lab, tmp_path, *QUICK, "method.tune.general=true", "method.tune.repeat=2")
    mixed = decoded(lab, made)
    answers = general.read(ctx.inputs["general"])
    assert mixed[: 2 * len(base)] == base * 2
    assert len(mixed) == 2 * len(base) + len(answers)
    for item, text in zip(answers, mixed[2 * len(base) :], strict=True):
        assert GENERIC in text
        assert text.endswith(f"<|assistant|>{item.response}<|end|>")


def test_without_dpo_there_is_one_train_step_and_no_pairs(lab):
    both, one = lab.cell("persllm"), lab.cell("persllm", "method.tune.dpo=null")
    assert both.train[0].config["objective"] == "sft"
    assert {step.config["objective"] for step in both.train[1:]} == {"dpo"}
    assert [step.config["objective"] for step in one.train] == ["sft"]
    assert "pairs" in both.train[1].inputs
    assert "pairs" not in one.train[0].inputs


def test_without_anti_induction_no_premise_is_preferred_either(lab, tmp_path):
    step = lab.cell("persllm", *QUICK, "method.tune.anti_induction=false", "pairs.cross_stage_limit=null").train[1]
    ctx = lab.context(step, tmp_path / "dpo")
    known = {pair.pattern for pair in pairs.read(ctx.inputs["pairs"], "train")}
    assert known == {"knowledge", "opinion", "false_premise", "true_premise"}
    for part in ("train", "dev"):
        assert {pair.pattern for pair in training_setup._own_pairs(ctx, part)} <= {"knowledge", "opinion"}


def test_each_stage_is_tuned_on_the_pairs_that_ask_for_it(lab, tmp_path):
    steps = lab.cell("persllm", *QUICK, "method.tune.dpo.per_stage=true").train[1:]
    assert [step.config["stage"] for step in steps] == ["early", "late"]
    count = 0
    for step in steps:
        ctx = lab.context(step, tmp_path / step.config["stage"])
        card, _ = materials.read(ctx.inputs["materials"])
        made = prepare(ctx, str(lab.model), False)
        for chosen, rejected in made.train:
            assert chosen.prompt == rejected.prompt
            assert card.stages[step.config["stage"]].label in lab.tokenizer.decode(chosen.prompt)
        count += len(made.train)
    (whole,) = lab.cell("persllm", *QUICK, "method.tune.dpo.per_stage=false").train[1:]
    assert len(prepare(lab.context(whole, tmp_path / "whole"), str(lab.model), False).train) == count


@pytest.mark.parametrize("label", ["none", "text", "token"])
def test_temporal_label_in_the_learned_prompt(lab, tmp_path, label):
    ctx, made = setup(lab, tmp_path, *QUICK, f"method.tune.temporal_label={label}")
    card, _ = materials.read(ctx.inputs["materials"])
    items = split.read(ctx.inputs["split"], "train")
    for item, (sequence,) in zip(items, made.train, strict=True):
        text = made.tokenizer.decode(sequence.prompt)
        assert (card.stages[item.stage].label in text) == (label == "text")
        token = made.tokenizer.convert_tokens_to_ids(stage_token(item.stage))
        assert (sequence.prompt.count(token) == 1) == (label == "token")


# ---- what is saved ----


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("label", ["text", "token"])
def test_saved_and_loaded_again_it_says_the_same(lab, tmp_path, trained, adapter, label):
    words = [*QUICK, f"method.tune.adapter={adapter}", f"method.tune.temporal_label={label}"]
    ctx = lab.train(tmp_path / "sft", "persllm", *words)
    loaded, tokenizer = load_tuned(ctx.out, str(lab.model), ctx.config["model"])
    card, _ = materials.read(ctx.inputs["materials"])
    source = prompt_source(card, ctx.config["recipe"], ctx.config["tune"])
    ids = tokenizer.apply_chat_template(build(source, "late", "Who?"), add_generation_prompt=True)["input_ids"]
    torch.testing.assert_close(logits(loaded, ids), logits(trained[-1], ids), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(loaded, ids), _base_logits(lab, tokenizer, ids), atol=1e-3)
    if label == "token":
        token = tokenizer.convert_tokens_to_ids(stage_token("late"))
        assert token in ids
        assert token >= lab.base().get_input_embeddings().weight.shape[0]


def _base_logits(lab, tokenizer, ids):
    base = lab.base()
    base.resize_token_embeddings(len(tokenizer))
    return logits(base, ids)


def test_label_tokens_are_trained_and_no_other_row(lab, tmp_path, monkeypatch):
    started = {}
    real = training_setup.add_stage_tokens

    def keeping(model, tokenizer, card):
        rows = real(model, tokenizer, card)
        started["rows"] = model.get_input_embeddings().weight.detach()[rows].clone()
        return rows

    monkeypatch.setattr(training_setup, "add_stage_tokens", keeping)
    ctx = lab.train(tmp_path / "sft", "persllm", *QUICK, "method.tune.temporal_label=token")
    loaded, tokenizer = load_tuned(ctx.out, str(lab.model), ctx.config["model"])
    before = lab.base().get_input_embeddings().weight
    after = inner(loaded).get_input_embeddings()(torch.arange(len(tokenizer)))
    assert after.shape[0] == before.shape[0] + 2
    assert torch.equal(after[:-2], before)
    assert (after[-2:] - started["rows"]).abs().max() > 1e-4
    saved = load_file(ctx.out / "adapter" / "adapter_model.safetensors")
    (rows,) = [value for name, value in saved.items() if "token" in name]
    assert torch.equal(rows, after[-2:])


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_tampered_export_is_found(lab, tmp_path, adapter):
    ctx = lab.train(tmp_path / "sft", "persllm", *QUICK, f"method.tune.adapter={adapter}")
    (file,) = [*ctx.out.glob("adapter/*.safetensors"), *ctx.out.glob("model/*.safetensors")]
    assert verify_export(ctx, str(lab.model)) < 1e-5
    values = load_file(file)
    name = next(n for n in values if n.endswith(("lora_B.weight", "down_proj.weight")))
    values[name] = values[name] + 0.5
    save_file(values, file, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="differ from the trained ones"):
        verify_export(ctx, str(lab.model))


def test_an_adapter_that_learned_nothing_is_found(lab, tmp_path):
    ctx = lab.context(lab.cell("persllm", *QUICK, "method.tune.sft.learning_rate=1e-60").train[0], tmp_path / "nothing")
    with pytest.raises(RuntimeError, match="is all zero after training"):
        train.run(ctx)


# ---- stopping ----


def test_early_stopping_keeps_the_best_weights(lab, tmp_path):
    # A dozen items seen again and again are learned by heart: the held-out loss falls, then rises.
    words = ["method.tune.adapter=full", "method.tune.sft.learning_rate=0.01", "method.tune.sft.epochs=40"]
    words += ["method.tune.sft.validations=12", "method.tune.sft.patience=2", "split.test=0.6", "split.dev=0.3"]
    ctx = lab.train(tmp_path / "sft", "persllm", *QUICK, *words)
    rows = tiny_module.curves(ctx)
    losses = [row["val_loss"] for row in rows if row["val_loss"] is not None]
    best = losses.index(min(losses))
    assert len(losses) - 1 - best == 2, losses  # patience, and then an end
    assert len(losses) < 12
    made = prepare(ctx, str(lab.model), False)
    saved, _ = load_tuned(ctx.out, str(lab.model), ctx.config["model"])
    values = log_probs(saved, made.dev)
    tokens = sum(len(unit[0].completion) for unit in made.dev)
    assert -sum(row[0] for row in values) / tokens == pytest.approx(min(losses), abs=1e-4)


def test_divergence_fails_the_step_with_a_hint(lab):
    step = lab.cell("persllm", *QUICK, "method.tune.adapter=full", "method.tune.sft.learning_rate=1e30").train[0]
    with pytest.raises(AssertionError):
        lab.run(step)
    failure = step.directory(lab.outputs).failure()
    assert failure["class"] == "diverged"
    assert "learning_rate" in failure["hint"]
    assert not step.directory(lab.outputs).is_done()


def test_a_prompt_that_leaves_no_room_is_refused(lab):
    step = lab.cell("persllm", *QUICK, "model.max_length=64").train[0]
    with pytest.raises(AssertionError, match=r"raise model\.max_length"):
        lab.run(step)


def test_attach_keeps_the_name_of_the_base(lab):
    tune = lab.cell("persllm").train[0].config["tune"]
    tuned = attach(lab.base(), tune, "ORG/NAME", [])
    assert tuned.peft_config["default"].base_model_name_or_path == "ORG/NAME"
