"""FP8 on Hopper, Ada and newer: products of the transformer's blocks with 8-bit weights and activations.

Weights are scaled per output row once, activations per token as they come (torchao's float8 dynamic quantisation).
"""

from typing import Any

import torch
from torch import nn

__all__ = ["check_fp8", "fp8_layers", "to_fp8"]

_CAPABILITY = (8, 9)
# Both widths must be multiples of this for the 8-bit matrix units.
_MULTIPLE = 16


def check_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Refuse fp8 where it cannot run, before anything is loaded.

    Raises:
        ValueError: no CUDA device of compute capability 8.9, weights that are not bfloat16, or no torchao.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise ValueError(
            "model.quantization: fp8 needs a CUDA device of compute capability 8.9 or newer (Ada, Hopper, Blackwell); "
            "use none here"
        )
    if dtype != torch.bfloat16:
        raise ValueError(f"model.quantization: fp8 computes beside bfloat16, not {dtype}; set dtype: bfloat16")
    _torchao()


def to_fp8(transformer: Any, device: torch.device) -> int:
    """Quantise the transformer's `fp8_layers` in place, layer by layer on the device; returns their number.

    Everything else stays in bfloat16. Call it before LoRA layers are installed and before anything is compiled.

    Raises:
        ValueError: torchao is not installed.
    """
    torchao = _torchao()
    chosen = set(fp8_layers(transformer))
    torchao.quantize_(
        transformer,
        torchao.Float8DynamicActivationFloat8WeightConfig(
            granularity=torchao.PerRow(),
            set_inductor_config=False,  # it would also let float32 products of the whole process run in TF32
        ),
        filter_fn=lambda _layer, name: name in chosen,
        device=device,
    )
    return len(chosen)


def fp8_layers(transformer: nn.Module) -> list[str]:
    """Names of the linear layers to quantise: those of the repeated blocks that process every token.

    Excluded are the modulations (`norm*.linear`), which process one vector per image, cost next to nothing and set the
    scale of all following layers; and the layers before and after the blocks (embedders, `norm_out`, `proj_out`), which
    are small and whose error reaches the latents undamped.
    """
    return [
        name
        for name, layer in transformer.named_modules()
        if isinstance(layer, nn.Linear) and "blocks." in name and not _modulates(name) and _aligned(layer)
    ]


def _modulates(name: str) -> bool:
    return any(part.startswith("norm") for part in name.split("."))


def _aligned(layer: nn.Linear) -> bool:
    return layer.in_features % _MULTIPLE == 0 and layer.out_features % _MULTIPLE == 0


def _torchao() -> Any:
    try:
        import torchao.quantization as torchao
    except ImportError as error:
        raise ValueError(f"model.quantization: fp8 needs torchao; install compute[fp8]: {error}") from error
    return torchao
