"""Load base models, tokenizers and adapters, always from safetensors."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from persllm.errors import UserError
from persllm.models import local_folder, package_gguf
from persllm.prompting import Message

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

logging.getLogger("transformers").setLevel(logging.ERROR)
if not torch.cuda.is_available():
    # transformers imports DeepSpeed where it is installed, which otherwise warns that it had to look for a GPU.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
# PEFT still asks transformers by the old name; nothing that a user could mend.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
with contextlib.suppress(ImportError):
    from transformers.utils import logging as _transformers_logging

    _transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _convert(gguf: Path, target: Path) -> None:
    """De-quantize a GGUF file once into bf16 safetensors; transformers' own save refuses a GGUF-loaded model."""
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # type: ignore[attr-defined]
    config.dtype = torch.bfloat16
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(target)  # type: ignore[arg-type]
    tokenizer.save_pretrained(target)
    for file in target.iterdir():
        file.chmod(0o644)


def model_source(path: str, outputs: Path) -> str:
    """Return what ``from_pretrained`` takes; a packaged GGUF is converted once under ``outputs/cache``."""
    if not path.startswith("package:"):
        folder = local_folder(path)
        return str(folder) if folder else path
    gguf = package_gguf(path.removeprefix("package:"))
    target = outputs / "cache" / f"{gguf.stem.lower()}-{gguf.stat().st_size}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            aside = target.with_name(f".{target.name}.aside")
            shutil.rmtree(aside, ignore_errors=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _convert(gguf, aside)
            aside.replace(target)
    return str(target)


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Raises:
        UserError: there is none, or it has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"model.path={source}: cannot load its tokenizer ({str(error).splitlines()[0]})") from error
    if tokenizer.chat_template is None:
        raise UserError(f"model.path={source}: its tokenizer has no chat template; choose an instruction-tuned model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(source: str, dtype: str, revision: str | None = None, four_bit: bool = False) -> PreTrainedModel:
    """Load a base model on the device, in evaluation mode.

    Args:
        source: see ``model_source``.
        dtype: of the weights, and of the arithmetic.
        revision: of a hub model.
        four_bit: hold the weights as NF4 with double quantization (arXiv 2305.14314); needs CUDA and bitsandbytes.

    Raises:
        UserError: the weights cannot be loaded.
    """
    how: dict[str, Any] = {"revision": revision, "dtype": DTYPES[dtype], "use_safetensors": True}
    if four_bit:
        if not torch.cuda.is_available():
            raise UserError("method.tune.adapter=qlora needs a CUDA GPU, and there is none here; use lora")
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[dtype],
        )
        how["device_map"] = {"": torch.cuda.current_device()}
    try:
        model = AutoModelForCausalLM.from_pretrained(source, **how)
    except (OSError, ValueError) as error:
        raise UserError(f"model.path={source}: cannot load its weights ({str(error).splitlines()[0]})") from error
    if four_bit or is_deepspeed_zero3_enabled():
        # Already where it belongs: quantized, or in shards on all ranks' devices.
        return model.eval()
    return model.to(device()).eval()  # type: ignore[arg-type]


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    """Return the token ids of a chat prompt, up to where the assistant begins to speak.

    Some templates know no system role: its text then goes before the first user message.
    """
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        if messages[0]["role"] != "system" or "system" not in str(error).lower():
            raise
        first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
        text = tokenizer.apply_chat_template([first, *messages[2:]], tokenize=False, add_generation_prompt=True)
    return tokenizer(str(text), add_special_tokens=False)["input_ids"]


def positions(model: Any) -> int | None:
    """Return how many tokens a model was made to read; None where its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of plain text."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def load_tuned(
    artifacts: Path, base_source: str, config: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what a train step saved: base and adapter, or the full model, with the tokenizer saved beside it.

    Args:
        artifacts: a train step's artifacts.
        base_source: see ``model_source``.
        config: the step's ``model`` section (dtype, revision).
    """
    from peft import PeftModel

    from persllm.training.fused import fuse

    tokenizer = load_tokenizer(str(artifacts / "tokenizer"))
    if (artifacts / "model").is_dir():
        return load_base(str(artifacts / "model"), config["dtype"]), tokenizer
    base = load_base(base_source, config["dtype"], config["revision"])
    resize(base, tokenizer)
    tuned = PeftModel.from_pretrained(base, str(artifacts / "adapter"), autocast_adapter_dtype=False)
    fuse(base)
    return tuned.to(device()).eval(), tokenizer  # type: ignore[return-value]


def resize(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Grow the embedding to the tokenizer's added tokens; the new rows start as the mean of all rows."""
    rows: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    # Under ZeRO 3 a weight's own shape is that of nothing.
    if len(tokenizer) > getattr(rows, "ds_shape", rows.shape)[0]:
        mean = rows.detach().float().mean(0)
        old = rows.shape[0]
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
                embedding.weight[old:] = mean.to(embedding.weight.dtype)  # type: ignore[union-attr]
