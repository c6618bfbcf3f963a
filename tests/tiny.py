"""A tiny generated model, and a study on it whose steps are run one by one.

The model is a Llama of two layers with random weights and a byte-level tokenizer learned from the shipped personas, so
that everything runs that runs for a real model, in seconds and with no download.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from persllm import compose, execute, packs, plan
from persllm.execute import Context, Outcome
from persllm.language_model import load_tokenizer
from persllm.steps import train

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
OFF = {"mode": "disabled"}


def make_model(folder, template=TEMPLATE, tied=True):
    """Save a model and its tokenizer; the same bytes every time. Returns the folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    texts = sorted(packs.SHIPPED.glob("*/*/*.txt"))
    tokenizer.train_from_iterator([text.read_text(encoding="utf-8") for text in texts], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        pad_token_id=fast.pad_token_id,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Lab:
    """A study of both shipped personas on the tiny model. Steps are run when they are asked for."""

    def __init__(self, folder, model):
        self.folder = Path(folder)
        self.outputs = self.folder / "out"
        self.model = model
        self.tokenizer = load_tokenizer(str(model))
        self.words = [
            "study.name=tiny",
            "persona=scrooge,ottoline",
            "model=hf",
            f"model.path={model}",
            "model.dtype=float32",
            "model.max_length=6000",
            "general.limit=6",
            "general.max_new_tokens=12",
            "pairs.cross_persona_limit=16",
            "pairs.cross_stage_limit=16",
            "generate.max_new_tokens=8",
            "split.test=0.1",
            "track=disabled",
            f"outputs={self.outputs}",
        ]

    def base(self, dtype=torch.float32):
        """Load the base model anew."""
        return AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype).eval()

    def cell(self, method, *more):
        """Return the planned cell of a method for the first persona."""
        return plan.build(compose.resolve([*self.words, f"method={method}", *more])).cells[0]

    def run(self, step):
        """Run a step, and what it needs, in the shared outputs; return its artifacts."""
        order = []

        def visit(one):
            for needed in one.inputs.values():
                visit(needed)
            if one not in order:
                order.append(one)

        visit(step)
        outcome = Outcome()
        execute.run_steps(order, self.outputs, OFF, lambda *_: None, outcome)
        told = [(s.id, s.directory(self.outputs).failure()) for s in outcome.failed]
        assert not told, told
        return step.directory(self.outputs).artifacts

    def context(self, step, directory):
        """Return a context for a step in a directory of its own, its inputs run in the shared outputs."""
        for needed in step.inputs.values():
            self.run(needed)
        ctx = dataclasses.replace(execute.context_for(step, self.outputs, OFF), directory=Path(directory))
        ctx.out.mkdir(parents=True)
        # The loaders of a step's results read its config beside its artifacts.
        (ctx.directory / "config.json").write_text(json.dumps(step.meaning()))
        return ctx

    def train(self, directory, method, *more, objective=0):
        """Run one train step (0 SFT, 1 DPO) in a directory of its own; return its context."""
        ctx = self.context(self.cell(method, *more).train[objective], directory)
        train.run(ctx)
        return ctx


def curves(ctx: Context):
    """Return a train step's curves."""
    return [json.loads(line) for line in (ctx.out / "curves.jsonl").read_text().splitlines()]


def weights(ctx: Context):
    """Return a train step's saved weights as bytes."""
    (file,) = [*ctx.out.glob("adapter/adapter_model.safetensors"), *ctx.out.glob("model/model.safetensors")]
    return file.read_bytes()


def inspect(run):
    """Return the records of an offline W&B run, as W&B itself reads them."""
    (file,) = Path(run).glob("*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in told.splitlines()]
