"""The shape of a base model, read without its weights: what memory and traffic are computed from. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persllm.errors import UserError
from persllm.gguf_header import read_header
from persllm.models import local_folder, package_gguf

_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_CONFIG = "config.json"


@dataclass(frozen=True)
class Architecture:
    """A decoder of Llama's form: RMS norms, attention with grouped keys, a gated MLP, no biases.

    Others of that family differ by less than a hundredth of their parameters (Qwen's biases and Gemma's extra norms).
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    """One matrix is both the embedding and the head."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Architecture:
        """Read a transformers ``config.json``.

        Raises:
            ValueError: it tells no decoder of this form; the text says why.
        """
        lacking = [key for key in _NEEDED if not isinstance(config.get(key), int)]
        if lacking:
            raise ValueError(f"its config.json has no {', '.join(lacking)}")
        if any(config.get(key) for key in _EXPERTS):
            raise ValueError("a mixture of experts is not modelled")
        heads = config["num_attention_heads"]
        return cls(
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocab=config["vocab_size"],
            # What transformers takes where the file does not say.
            tied=bool(config.get("tie_word_embeddings", str(config.get("model_type")).startswith("gemma"))),
        )

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """``(inputs, outputs)`` of one layer's matrices: query, key, value, output, gate, up, down."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        d, i = self.hidden, self.intermediate
        return (d, wide), (d, narrow), (d, narrow), (wide, d), (d, i), (d, i), (i, d)

    @property
    def body(self) -> int:
        """Parameters of all layers' matrices: those that LoRA sits on."""
        return self.layers * sum(a * b for a, b in self.linears)

    @property
    def norms(self) -> int:
        """Parameters of the norms: two a layer, and the last."""
        return (2 * self.layers + 1) * self.hidden

    @property
    def embeddings(self) -> int:
        """Parameters of the embedding, and of the head where it is another matrix."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.body + self.norms + self.embeddings

    def lora(self, rank: int) -> int:
        """Trainable parameters of LoRA (arXiv 2106.09685) of a rank on every matrix of every layer."""
        return self.layers * rank * sum(a + b for a, b in self.linears)

    def tensors(self) -> list[int]:
        """Return the size of each parameter tensor, in elements."""
        layer = [a * b for a, b in self.linears] + [self.hidden] * 2
        return layer * self.layers + [self.hidden] + [self.vocab * self.hidden] * (1 if self.tied else 2)

    def lora_tensors(self, rank: int) -> list[int]:
        """Return the size of each LoRA tensor, in elements."""
        return [size * rank for pair in self.linears for size in pair] * self.layers


def find(path: str, revision: str | None, outputs: Path) -> Architecture:
    """Return the architecture of ``model.path``, from what lies on this machine.

    Raises:
        ValueError: it is not known here; the text says why.
    """
    if path.startswith("package:"):
        gguf = package_gguf(path.removeprefix("package:"))
        folder = outputs / "cache" / f"{gguf.stem.lower()}-{gguf.stat().st_size}"
        return _from_file(folder / _CONFIG) if (folder / _CONFIG).is_file() else _from_gguf(gguf)
    try:
        folder = local_folder(path)
    except UserError as error:
        raise ValueError(str(error)) from error
    if folder is not None:
        return _from_file(folder / _CONFIG)
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(path, _CONFIG, revision=revision)
    if not isinstance(file, str):
        raise ValueError("the model is not on this machine yet")
    return _from_file(Path(file))


def _from_file(path: Path) -> Architecture:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read") from error
    return Architecture.from_config(config)


def _from_gguf(path: Path) -> Architecture:
    metadata, tensors = read_header(path)
    family = metadata.get("general.architecture", "llama")
    told = {key.removeprefix(f"{family}."): value for key, value in metadata.items()}
    return Architecture.from_config(
        {
            "hidden_size": told.get("embedding_length"),
            "intermediate_size": told.get("feed_forward_length"),
            "num_hidden_layers": told.get("block_count"),
            "num_attention_heads": told.get("attention.head_count"),
            "num_key_value_heads": told.get("attention.head_count_kv"),
            "head_dim": told.get("attention.key_length"),
            "vocab_size": told.get("vocab_size", told.get("tokenizer.ggml.tokens")),
            "num_experts": told.get("expert_count"),
            "tie_word_embeddings": "output.weight" not in tensors,
        }
    )
