"""Attach, export and verify what is trained: a LoRA adapter in PEFT format, or all weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from persllm.execute import Context
from persllm.language_model import device, load_base, load_tokenizer, resize
from persllm.packs import Card
from persllm.prompting import stage_token
from persllm.training.batch import Batch, completion_log_probs
from persllm.training.fused import fuse
from persllm.training.weights import Folder
from persllm.training.zero import is_sharded, is_zero


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


def attach(
    model: PreTrainedModel, tune: dict[str, Any], base_name: str, trained_rows: list[int], rounded: bool = False
) -> PreTrainedModel:
    """Return the model with what is trained switched on.

    LoRA sits on every linear layer of the body, starts at zero (so that the model first equals the prompted one) and
    is kept in float32, or ``rounded`` to the base's type where DeepSpeed keeps the float32 copy. ``trained_rows`` are
    embedding rows that are trained and saved with it.
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
    tuned = get_peft_model(model, config, autocast_adapter_dtype=not rounded)
    tuned.peft_config["default"].base_model_name_or_path = base_name
    return tuned  # type: ignore[return-value]


def inner(model: Any) -> PreTrainedModel:
    """Return the transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # type: ignore[return-value]


def trained_dtype(model_config: dict[str, Any], tune: dict[str, Any], rounded: bool) -> str:
    """Return the type that a base is loaded in: float32 where its own weights are trained and no one keeps a copy."""
    return "float32" if tune["adapter"] == "full" and not rounded else model_config["dtype"]


def load_trainable(
    artifacts: Path, source: str, model_config: dict[str, Any], tune: dict[str, Any], rounded: bool = False
) -> tuple[Any, Any]:
    """Load what a train step saved, ready to be trained further (see ``attach``); return model and tokenizer."""
    tokenizer = load_tokenizer(str(artifacts / "tokenizer"))
    if tune["adapter"] == "full":
        dtype = trained_dtype(model_config, tune, rounded)
        return load_base(str(artifacts / "model"), dtype).requires_grad_(True), tokenizer
    four_bit = tune["adapter"] == "qlora"
    base = load_base(source, model_config["dtype"], model_config["revision"], four_bit=four_bit)
    resize(base, tokenizer)
    folder = str(artifacts / "adapter")
    return PeftModel.from_pretrained(base, folder, is_trainable=True, autocast_adapter_dtype=not rounded), tokenizer


def export(model: Any, tokenizer: PreTrainedTokenizerBase, target: Path, best: Folder) -> None:
    """Save the best weights as an adapter (PEFT's format) or a full model (safetensors), and the tokenizer beside it.

    The live model gives names and configuration only: under ZeRO its weights may lie in shards.
    """
    if isinstance(model, PeftModel):
        state = {name: best.read(name) for name in best}
        config = model.peft_config["default"]
        assert isinstance(config, LoraConfig)
        # PEFT keeps a set, whose order differs from process to process, and with it the file's bytes.
        config.target_modules = sorted(config.target_modules or ())
        model.save_pretrained(str(target / "adapter"), state_dict=state, save_embedding_layers=False)
        (target / "adapter" / "README.md").unlink(missing_ok=True)
    else:
        dtype = best.read(next(iter(best))).dtype
        best.hugging_face(target / "model")
        model.config.dtype = dtype
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(target / "model")
        model.generation_config.save_pretrained(target / "model")
    tokenizer.save_pretrained(str(target / "tokenizer"))


def verify_export(ctx: Context, source: str) -> float:
    """Reload what was exported, and compare its log-probabilities of the probe with the trained model's.

    Both by the same arithmetic (fused or not, rounded or not): what differs then is the weights.

    Returns:
        The largest difference, in nats.

    Raises:
        RuntimeError: they differ by more than rounding, or a LoRA matrix is all zero after training.
    """
    kept = load_file(ctx.work / "probe.safetensors")
    expected, longest = kept.pop("log_probs"), int(kept.pop("longest"))
    batch = Batch(**kept, denominator=torch.tensor(1.0)).to(device())
    model_config, strategy = ctx.config["model"], ctx.local["strategy"]
    rounded, bf16 = is_zero(strategy), model_config["dtype"] == "bfloat16"
    reloaded, _ = load_trainable(ctx.out, source, model_config, ctx.config["tune"], rounded)
    if not is_sharded(strategy):
        fuse(inner(reloaded), longest)
    for p in reloaded.parameters():
        if p.requires_grad and rounded and bf16:
            p.data = p.data.to(torch.bfloat16)
    reloaded.eval()
    with torch.no_grad(), torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=bf16 and not rounded):
        found = completion_log_probs(inner(reloaded), batch)[0].float().cpu()
    difference = float((found - expected).abs().max())
    if not difference <= (0.05 if bf16 else 1e-3):
        raise RuntimeError(
            f"the exported weights differ from the trained ones by {difference:.4f} nats after reloading"
        )
    for name, weight in reloaded.named_parameters():
        if weight.requires_grad and "lora_B" in name and not weight.any():
            raise RuntimeError(f"{name} is all zero after training")
    return difference
