"""Attach, export and verify what is trained: a LoRA adapter in PEFT format, or all weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from persllm.language_model import load_base, load_tokenizer, resize
from persllm.packs import Card
from persllm.prompting import stage_token
from persllm.training.batch import Batch, completion_log_probs
from persllm.training.fused import fuse


def add_stage_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: Card) -> list[int]:
    """Add one special token per stage, its row started at the mean of its label's rows; return the ids."""
    tokens = {stage_token(stage): part.label for stage, part in card.stages.items()}
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    resize(model, tokenizer)
    ids = [int(tokenizer.convert_tokens_to_ids(token)) for token in tokens]  # type: ignore[arg-type]
    rows: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    with torch.no_grad():
        for token, label in zip(ids, tokens.values(), strict=True):
            words = tokenizer(label, add_special_tokens=False)["input_ids"]
            rows[token] = rows[torch.tensor(words, device=rows.device)].float().mean(0).to(rows.dtype)
    return ids


def attach(model: PreTrainedModel, tune: dict[str, Any], base_name: str, trained_rows: list[int]) -> PreTrainedModel:
    """Return the model with what is trained switched on.

    LoRA sits on every linear layer of the body, starts at zero (so that the model first equals the prompted one) and
    is kept in float32. ``trained_rows`` are embedding rows that are trained and saved with it.
    """
    if tune["adapter"] == "full":
        return model.requires_grad_(True)
    lora = tune["lora"]
    config = LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        trainable_token_indices=trained_rows or None,
    )
    tuned = get_peft_model(model, config)
    tuned.peft_config["default"].base_model_name_or_path = base_name
    return tuned  # type: ignore[return-value]


def inner(model: Any) -> PreTrainedModel:
    """Return the transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def load_trainable(artifacts: Path, source: str, model_config: dict[str, Any], tune: dict[str, Any]) -> tuple[Any, Any]:
    """Load what an earlier train step saved, ready to be trained further; return model and tokenizer."""
    tokenizer = load_tokenizer(str(artifacts / "tokenizer"))
    if tune["adapter"] == "full":
        return load_base(str(artifacts / "model"), "float32").requires_grad_(True), tokenizer
    base = load_base(source, model_config["dtype"], model_config["revision"])
    resize(base, tokenizer)
    return PeftModel.from_pretrained(base, str(artifacts / "adapter"), is_trainable=True), tokenizer


def trained_state(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights that are trained, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def export(model: Any, tokenizer: PreTrainedTokenizerBase, target: Path, dtype: torch.dtype) -> None:
    """Save the adapter (PEFT format) or the full model (safetensors), and the tokenizer beside it."""
    if isinstance(model, PeftModel):
        model.save_pretrained(str(target / "adapter"), save_embedding_layers=False)
        (target / "adapter" / "README.md").unlink(missing_ok=True)
    else:
        model.to(dtype).save_pretrained(str(target / "model"))
    tokenizer.save_pretrained(str(target / "tokenizer"))


def verify_export(
    trained: Any,
    target: Path,
    source: str,
    model_config: dict[str, Any],
    tune: dict[str, Any],
    batch: Batch,
    longest: int,
) -> float:
    """Reload what was exported and compare its log-probabilities with the trained model's on one batch.

    Both by the same arithmetic (see ``fuse``): what differs then is the weights.

    Returns:
        The largest difference, in nats.

    Raises:
        RuntimeError: they differ by more than rounding, or a LoRA matrix is all zero after training.
    """
    reloaded, _ = load_trainable(target, source, model_config, tune)
    fuse(inner(reloaded), longest)
    bf16 = model_config["dtype"] == "bfloat16"
    tolerance = 0.05 if bf16 else 1e-3
    values = []
    for model in (trained, reloaded):
        model.eval()
        with torch.no_grad(), torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=bf16):
            values.append(completion_log_probs(inner(model), batch)[0].float())
    difference = float((values[0] - values[1]).abs().max())
    if not difference <= tolerance:
        raise RuntimeError(
            f"the exported weights differ from the trained ones by {difference:.4f} nats after reloading"
        )
    for name, weight in trained_state(reloaded).items():
        if "lora_B" in name and not weight.any():
            raise RuntimeError(f"{name} is all zero after training")
    return difference
