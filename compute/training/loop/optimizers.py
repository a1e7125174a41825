"""Creates optimizers and learning-rate schedules; an optimizer that cannot run here is replaced by the nearest one."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from diffusers.optimization import get_scheduler

from compute.training.spec import OptimizerSpec

__all__ = ["make_optimizer", "make_schedule"]

_log = logging.getLogger(__name__)


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], spec: OptimizerSpec, device: torch.device
) -> torch.optim.Optimizer:
    """Return an optimizer over the parameters.

    `adamw8bit` needs bitsandbytes and a CUDA device; elsewhere it becomes `adamw`, with a warning in the log.
    """
    common: dict[str, Any] = {"lr": spec.learning_rate, "weight_decay": spec.weight_decay}
    if spec.name == "adamw8bit":
        eight_bit = _adamw8bit(device)
        if eight_bit is not None:
            optimizer: torch.optim.Optimizer = eight_bit(parameters, betas=spec.betas, **common)
            return optimizer
    if spec.name == "adafactor":
        from transformers import Adafactor

        adafactor: torch.optim.Optimizer = Adafactor(
            parameters, relative_step=False, scale_parameter=False, warmup_init=False, **common
        )
        return adafactor
    if spec.name == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **common)
    return torch.optim.AdamW(parameters, betas=spec.betas, fused=device.type == "cuda", **common)


def make_schedule(optimizer: torch.optim.Optimizer, spec: OptimizerSpec, steps: int) -> Any:
    """Return the learning-rate schedule over `steps`, the diffusers schedule of the same name."""
    name = spec.schedule if spec.schedule != "constant" else "constant_with_warmup"
    return get_scheduler(name, optimizer, num_warmup_steps=spec.warmup_steps, num_training_steps=steps)


def _adamw8bit(device: torch.device) -> Any:
    if device.type != "cuda":
        _log.warning("optimizer adamw8bit needs a CUDA device; using adamw, whose state takes four times the memory")
        return None
    try:
        import bitsandbytes
    except ImportError:
        _log.warning("optimizer adamw8bit needs bitsandbytes, which is not installed; using adamw")
        return None
    return bitsandbytes.optim.AdamW8bit
