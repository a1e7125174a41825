"""Frozen linear layers in 8 bits, for the base model of a LoRA: half the memory of bfloat16.

The weight is stored as float8 (e4m3) with a scale for every output row, and widened for each product. Autograd saves
the
8-bit weight, not the wide one, so the backward pass saves the memory as well.
"""

from typing import Any

import torch
from torch import nn

from compute.pipelines.acceleration.quantization import fp8_layers

__all__ = ["FrozenLinear", "freeze_to_fp8"]

_FORMAT = torch.float8_e4m3fn


class FrozenLinear(nn.Linear):
    """A linear layer without training. `weight` is float8, `scale` (out_features, 1)."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        wide = layer.weight.detach().float()
        scale = wide.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / torch.finfo(_FORMAT).max
        self.weight = nn.Parameter((wide / scale).to(_FORMAT), requires_grad=False)
        self.register_buffer("scale", scale.to(layer.weight.dtype))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name of nn.Linear
        result: torch.Tensor = _FrozenProduct.apply(input, self.weight, self.scale)
        return result if self.bias is None else result + self.bias


class _FrozenProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, scale)
        return given @ _widened(weight, scale, given.dtype).t()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        weight, scale = ctx.saved_tensors
        return gradient @ _widened(weight, scale, gradient.dtype), None, None


def freeze_to_fp8(module: nn.Module) -> int:
    """Replace the large linear layers of a transformer's blocks, before a LoRA is added; return their number."""
    names = fp8_layers(module)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = module.get_submodule(name)
        if isinstance(layer, nn.Linear):
            setattr(module.get_submodule(parent), last, FrozenLinear(layer))
    return len(names)


def _widened(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return weight.to(dtype) * scale.to(dtype)
