"""Names a LoRA for SDXL's UNet as kohya's scripts, ComfyUI and diffusers all read it."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from compute.training.models.base import Tensors

__all__ = ["to_kohya"]

_NAME = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")
_BLOCK = re.compile(
    r"(?:(?P<side>down|up)_blocks\.(?P<block>\d+)|mid_block)\.attentions\.(?P<number>\d+)\.(?P<rest>.+)"
)
_LAYERS_PER_BLOCK = 2
"""Layers of a block in every SDXL; the original code numbers all layers and each block's down- or upsampler in turn."""


def to_kohya(state: Mapping[str, torch.Tensor], *, alpha: float) -> "Tensors":
    """Return `lora_unet_<layer>.lora_down.weight`, `.lora_up.weight` and `.alpha`, with layers named as in the original
    code.

    kohya's scripts know no other names for SDXL; ComfyUI and diffusers read them as well.

    Raises:
        ValueError: a tensor is not half of a LoRA's pair, or belongs to a layer outside the UNet's attention blocks.
    """
    found: Tensors = {}
    for layer, half, tensor in _halves(state):
        name = f"lora_unet_{_original(layer).replace('.', '_')}"
        found[f"{name}.{'lora_down' if half == 'A' else 'lora_up'}.weight"] = tensor.contiguous()
        found[f"{name}.alpha"] = torch.tensor(float(alpha))
    return found


def _halves(state: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, str, torch.Tensor]]:
    for name, tensor in state.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not half of a LoRA's pair")
        yield match["layer"], match["half"], tensor


def _original(layer: str) -> str:
    """Convert diffusers' name of a layer in an attention block to that of the original code."""
    match = _BLOCK.fullmatch(layer)
    if match is None:
        raise ValueError(f"{layer!r} is in none of the UNet's attention blocks")
    rest, number = match["rest"], int(match["number"])
    if match["side"] is None:
        return f"middle_block.1.{rest}"
    first = int(match["block"]) * (_LAYERS_PER_BLOCK + 1) + number
    # Input block 0 is the first convolution.
    return f"input_blocks.{1 + first}.1.{rest}" if match["side"] == "down" else f"output_blocks.{first}.1.{rest}"
