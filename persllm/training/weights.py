"""Trained weights and optimizer state, whole whatever the strategy, and folders of them that any rank count can read.

DeepSpeed's own checkpoints hold shards that only the same number of ranks can load, and are pickles. These are
safetensors by parameter name: a run goes on on other ranks, or on one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from persllm.errors import UserError
from persllm.store import read_json, write_json
from persllm.training import distributed

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's two running means, in float32 (arXiv 1711.05101)."""
SHARD = 2**30
"""Bytes of tensors that a rank gathers before it writes them to a file."""

Named = list[tuple[str, torch.nn.Parameter]]


def trained(model: Any) -> Named:
    """Return the parameters that are trained, by name."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _is_deepspeed(p: torch.nn.Parameter) -> bool:
    return hasattr(p, "ds_id") or hasattr(p, "_hp_mapping")


def whole(p: torch.nn.Parameter) -> torch.Tensor:
    """Return a parameter in float32, gathered where it lies in shards. Every rank must ask."""
    if _is_deepspeed(p):
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(p)  # type: ignore[return-value]
    return p.detach()


def assign(p: torch.nn.Parameter, value: torch.Tensor) -> None:
    """Set a parameter, and the optimizer's own copy of it. Every rank must set the same value."""
    if not _is_deepspeed(p):
        p.data.copy_(value)
        return
    import deepspeed
    from deepspeed import utils

    wide = value.to(distributed.device(), torch.float32)
    if not hasattr(p, "ds_id"):
        utils.safe_set_full_fp32_param(p, wide)
        p.data.copy_(value)
        return
    utils.safe_set_local_fp32_param(p, _own_part(p, wide))
    with deepspeed.zero.GatheredParameters([p], modifier_rank=0):
        if distributed.rank() == 0:
            p.data.copy_(value)


def _own_part(p: Any, value: torch.Tensor) -> torch.Tensor:
    """Return this rank's shard of a value, padded as ZeRO 3 pads what its ranks do not divide.

    DeepSpeed's own setters of whole values forget the padding, and run past the end on the last rank.
    """
    size = p.ds_tensor.numel()
    padded = torch.nn.functional.pad(value.flatten(), (0, size * distributed.world() - value.numel()))
    return padded.narrow(0, size * distributed.rank(), size)


def moment(optimizer: Any, p: torch.nn.Parameter, key: str) -> torch.Tensor:
    """Return one of a parameter's ``MOMENTS``, whole. Every rank must ask."""
    if _is_deepspeed(p):
        from deepspeed.utils import safe_get_full_optimizer_state

        return safe_get_full_optimizer_state(p, key)  # type: ignore[return-value]
    return optimizer.state[p][key]


def restore_moments(optimizer: Any, named: Named, read: Callable[[str], torch.Tensor], step: int) -> None:
    """Put the moments of a saved state back, and the count of steps that AdamW corrects its bias by."""
    flat = getattr(optimizer, "fp32_partitioned_groups_flat", None) or getattr(
        optimizer, "single_partition_of_fp32_groups", None
    )
    inner = optimizer if flat is None else optimizer.optimizer
    for p in flat or [p for _, p in named]:
        # A tensor each, as torch's own: AdamW counts them up in place.
        inner.state[p] = {"step": torch.tensor(float(step))} | {key: torch.zeros_like(p.data) for key in MOMENTS}
    if hasattr(optimizer, "_lazy_init_hp_params_optimizer_state"):
        # DeepSpeed maps parameters to their moments at the first step, which lies behind us.
        optimizer._lazy_init_hp_params_optimizer_state()
    for name, p in named:
        for key in MOMENTS:
            value = read(f"{name}::{key}").to(distributed.device())
            if flat is None:
                inner.state[p][key].copy_(value)
                continue
            from deepspeed import utils

            if hasattr(p, "ds_id"):
                utils.safe_set_local_optimizer_state(p, _own_part(p, value), key)
            else:
                utils.safe_set_full_optimizer_state(p, value, key)


def write_folder(
    target: Path, tensors: Iterable[tuple[str, Callable[[], torch.Tensor]]], record: dict[str, Any]
) -> None:
    """Write tensors and a record as a folder that appears whole or not at all. Every rank must take part.

    Each tensor is gathered by all ranks and written by one of them, so that no rank holds more than a shard.

    Args:
        target: the folder.
        tensors: names, and functions that gather them; the same on every rank.
        record: goes into the folder's index.json.
    """
    aside = target.with_name(f"{target.name}.aside")
    if distributed.rank() == 0:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    distributed.barrier()
    mine: dict[str, torch.Tensor] = {}
    files = size = 0
    for place, (name, gather) in enumerate(tensors):
        value = gather()
        if place % distributed.world() == distributed.rank():
            mine[name] = value.to("cpu", copy=True).contiguous()
            size += value.nbytes
        if size > SHARD:
            _write(aside, mine, files)
            mine, size, files = {}, 0, files + 1
    if mine:
        _write(aside, mine, files)
    distributed.barrier()
    if distributed.rank() == 0:
        parts = sorted(aside.glob("*.safetensors"))
        places = {}
        for part in parts:
            with safe_open(part, "pt") as file:
                places |= dict.fromkeys(file.keys(), part.name)
        index = {"files": {p.name: p.stat().st_size for p in parts}, "tensors": places, "record": record}
        write_json(aside / "index.json", index)
        shutil.rmtree(target, ignore_errors=True)
        aside.replace(target)
    distributed.barrier()


def _write(folder: Path, tensors: dict[str, torch.Tensor], number: int) -> None:
    path = folder / f"part-{distributed.rank():04}-{number:04}.safetensors"
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except BaseException:
        # On a full disk, what is half-written would stand in the way of saying so.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with path.open("rb") as file:
        os.fsync(file.fileno())


class Folder:
    """A folder that ``write_folder`` made: its record, and its tensors one by one.

    Raises:
        UserError: a file of it is missing or truncated.
    """

    def __init__(self, path: Path) -> None:
        index = read_json(path / "index.json")
        if not isinstance(index, dict):
            raise UserError(f"{path}: no readable index.json; delete this folder to train from the start")
        for name, size in index["files"].items():
            has = (path / name).stat().st_size if (path / name).is_file() else 0
            if has != size:
                raise UserError(
                    f"{path / name}: {has:,} of {size:,} bytes are there; delete {path} to train from the start"
                )
        self.path = path
        self.record: dict[str, Any] = index["record"]
        self.places: dict[str, str] = index["tensors"]

    def __iter__(self) -> Any:
        return iter(self.places)

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor, on the CPU."""
        with safe_open(self.path / self.places[name], "pt") as file:
            return file.get_tensor(name)

    def hugging_face(self, target: Path) -> None:
        """Have the files in another folder too, named as a transformers checkpoint names its own."""
        files = sorted(set(self.places.values()))
        names = {old: f"model-{i:05}-of-{len(files):05}.safetensors" for i, old in enumerate(files, 1)}
        if len(files) == 1:
            names = {files[0]: "model.safetensors"}
        size = sum((self.path / file).stat().st_size for file in files)
        target.mkdir(parents=True, exist_ok=True)
        for old, new in names.items():
            # A link where the file system has them: the weights may be large, and a killed run needs both places.
            try:
                (target / new).hardlink_to(self.path / old)
            except OSError:
                shutil.copyfile(self.path / old, target / new)
        if len(files) > 1:
            index = {"metadata": {"total_size": size}, "weight_map": {k: names[v] for k, v in self.places.items()}}
            (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
