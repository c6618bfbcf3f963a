"""The one place for devices, precision, clipping and accumulation: the Trainer's arguments of each strategy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.plugins import DeepSpeedPrecision
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy
from transformers import AutoConfig

from persllm.geometry import Geometry
from persllm.training import distributed
from persllm.training.zero import is_zero, zero_config


class Zero(DeepSpeedStrategy):
    """Lightning's DeepSpeed strategy, on the CPU too: there the ranks talk over gloo, and no index picks a device."""

    def setup_environment(self) -> None:
        """Skip the check for CUDA."""
        if torch.cuda.is_available():
            super().setup_environment()
            return
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
        self.setup_distributed()

    def setup_distributed(self) -> None:
        """Take the ranks' numbers, and give the process group to DeepSpeed."""
        import deepspeed

        self.set_world_ranks()
        deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), timeout=distributed.TIMEOUT)

    def _initialize_deepspeed_train(self, model: Any) -> None:
        """Keep the buffers: DeepSpeed rounds them with the weights, and rotary positions suffer by it."""
        kept = [(m, name, b) for m in model.modules() for name, b in m.named_buffers(recurse=False)]
        super()._initialize_deepspeed_train(model)
        for module, name, buffer in kept:
            setattr(module, name, buffer.to(self.root_device))

    @property
    def root_device(self) -> torch.device:
        """This rank's device. DeepSpeed wants an index, of a CPU too."""
        device = distributed.device()
        return device if device.type == "cuda" else torch.device("cpu", 0)


def zero_of(
    strategy: dict[str, Any], model: dict[str, Any], source: str, geometry: Geometry, objective: str, clip: float
) -> dict[str, Any] | None:
    """Return the DeepSpeed configuration of a train step, or None where the strategy is not DeepSpeed's."""
    if not is_zero(strategy):
        return None
    hidden = AutoConfig.from_pretrained(source, revision=model["revision"]).hidden_size
    sequences = geometry.micro * (2 if objective == "dpo" else 1)
    return zero_config(strategy["kind"], hidden, model["dtype"], sequences, clip)


@contextmanager
def load_in_shards(zero: dict[str, Any] | None) -> Iterator[None]:
    """Have ``from_pretrained`` put each weight into shards as it is read, where ZeRO 3 trains.

    transformers asks for the configuration that lives; it is a weak reference there, so it must be held here.
    """
    if zero is None or zero["zero_optimization"]["stage"] < 3:
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    alive = HfDeepSpeedConfig(dict(zero))
    yield
    del alive


class Exact(DeepSpeedPrecision):
    """Lightning's precision for DeepSpeed, without two things that change the numbers."""

    def convert_input(self, data: Any) -> Any:
        """Return the batch unchanged: its log-probabilities must not be rounded."""
        return data

    def backward(self, tensor: torch.Tensor, model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Divide the loss by the accumulation once: Lightning has done it, and DeepSpeed would again."""
        model.trainer.model.backward(tensor, *args, scale_wrt_gas=False, **kwargs)


def trainer_arguments(
    strategy: dict[str, Any], dtype: str, geometry: Geometry, clip: float, zero: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what a ``Trainer`` gets.

    Args:
        strategy: the step's section of that name.
        dtype: ``bfloat16`` trains in mixed precision.
        geometry: how the batch is cut.
        clip: the largest norm of the gradient.
        zero: the DeepSpeed configuration where the strategy is DeepSpeed's.
    """
    os.environ.setdefault("POSSIBLE_USER_WARNINGS", "off")
    precision: Any = "bf16-mixed" if dtype == "bfloat16" else "32-true"
    cuda = torch.cuda.is_available()
    common: dict[str, Any] = {
        "accelerator": "gpu" if cuda else "cpu",
        "accumulate_grad_batches": geometry.accumulation,
        "gradient_clip_val": clip,
    }
    if strategy["kind"] == "single":
        # Named, so that Lightning does not take a job of Slurm's that this process runs in for its own.
        return common | {"devices": 1, "precision": precision, "plugins": [LightningEnvironment()]}
    common |= {"devices": strategy["devices"], "num_nodes": strategy["nodes"], "use_distributed_sampler": False}
    here = TorchElasticEnvironment()
    if zero is None:
        return common | {"strategy": DDPStrategy(), "precision": precision, "plugins": [here]}
    return common | {"strategy": Zero(config=zero), "plugins": [here, Exact(precision)]}
