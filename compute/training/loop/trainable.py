"""Selects the trained weights of a network: a LoRA on frozen layers, or all weights."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from compute.schemas.training import TrainingType
from compute.training.loop.frozen import freeze_to_fp8
from compute.training.models.base import Denoiser, Tensors
from compute.training.spec import TrainingSpec

__all__ = ["Trained", "prepare"]

_log = logging.getLogger(__name__)
_ADAPTER = "default"
_LARGE = 10**9
"""Number of weights above which gradient checkpointing is on by default."""


class Trained:
    """The trained weights.

    The network computes with them in its own format; where that is bfloat16, the optimizer works on float32 copies, in
    which small steps are not lost, and every step is copied to the network.

    Attributes:
        module: The network.
        names: Names of the trained weights.
        masters: The weights in float32, in the order of `names`, as the optimizer sees them.
        is_lora: Whether they belong to a LoRA.
        ema: Their moving average, if there is one.
    """

    def __init__(self, module: Any, *, is_lora: bool, dtype: torch.dtype, ema_decay: float | None) -> None:
        """Take the weights of `module` that require a gradient; the module gets them in `dtype`."""
        self.module = module
        self.is_lora = is_lora
        moving = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.names = list(moving)
        self._live = list(moving.values())
        for weight in self._live:
            weight.data = weight.data.float()
        if dtype is torch.float32:
            self.masters = self._live
        else:
            self.masters = [torch.nn.Parameter(weight.detach().clone()) for weight in self._live]
            for weight in self._live:
                weight.data = weight.data.to(dtype)
        self.ema = EMAModel(self.masters, decay=ema_decay, use_ema_warmup=True) if ema_decay else None

    def collect_gradients(self) -> None:
        """Add the gradients of a backward pass to the masters'."""
        if self.masters is self._live:
            return
        for live, master in zip(self._live, self.masters, strict=True):
            if live.grad is not None:
                master.grad = live.grad.float() if master.grad is None else master.grad.add_(live.grad)
                live.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters to the network."""
        if self.masters is not self._live:
            torch._foreach_copy_([live.data for live in self._live], [master.data for master in self.masters])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network the averaged weights inside the block, if there is an average."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.masters)
        self.ema.copy_to(self.masters)
        self.publish()
        try:
            yield
        finally:
            self.ema.restore(self.masters)
            self.publish()

    def adapter(self) -> Tensors:
        """Return a LoRA's weights in float32 by PEFT's names (`….lora_A.weight`), averaged if there is an average."""
        current = self.ema.shadow_params if self.ema is not None else self.masters
        found = dict(zip(self.names, current, strict=True))
        state = get_peft_model_state_dict(self.module, state_dict=found, adapter_name=_ADAPTER)
        return {name: value.detach().float().cpu().contiguous() for name, value in state.items()}

    def save_whole(self, folder: Path) -> None:
        """Write the whole network in diffusers' layout (FULL), averaged if there is an average."""
        with self.averaged():
            self.module.save_pretrained(folder)


def prepare(denoiser: Denoiser, spec: TrainingSpec, dtype: torch.dtype) -> Trained:
    """Freeze, adapt and compile the network for the training."""
    module, lora = denoiser.module, spec.training_type is TrainingType.LORA
    checkpointing = spec.gradient_checkpointing
    if checkpointing is None:
        checkpointing = sum(weight.numel() for weight in module.parameters()) > _LARGE
    if lora:
        module.requires_grad_(False)
        if spec.base_precision == "fp8":
            _log.info("%d layers of the base are frozen in 8 bits", freeze_to_fp8(module))
        _add_lora(module, denoiser, spec)
    else:
        module.requires_grad_(True)
    trained = Trained(module, is_lora=lora, dtype=dtype, ema_decay=spec.ema_decay)
    if checkpointing:
        module.enable_gradient_checkpointing()
    if spec.compile:
        # Only the blocks, which repeat a few kinds: this takes minutes less than the whole network.
        module.compile_repeated_blocks(dynamic=None)
    return trained


def _add_lora(module: Any, denoiser: Denoiser, spec: TrainingSpec) -> None:
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha or spec.rank,
        init_lora_weights="gaussian",
        target_modules=list(denoiser.lora_targets),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        module.add_adapter(config, adapter_name=_ADAPTER)
        for layer in module.modules():
            if hasattr(layer, "reset_lora_parameters"):
                # PEFT gives an adapter the format of its layer, and 8 bits would round the new random weights.
                for half in (layer.lora_A[_ADAPTER], layer.lora_B[_ADAPTER]):
                    half.float()
                layer.reset_lora_parameters(_ADAPTER, "gaussian")
