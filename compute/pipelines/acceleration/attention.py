"""Selects a transformer's attention kernels, by their names in the configuration, through diffusers' dispatcher."""

from dataclasses import dataclass
from typing import Any

import torch

from compute.pipelines.config import Attention

__all__ = ["check_attention", "set_attention", "traces_whole"]


@dataclass(frozen=True, slots=True)
class _Kernels:
    """An attention backend of diffusers and its requirements.

    Attributes:
        diffusers_name: The name in diffusers' `AttentionBackendName`.
        capability: The least compute capability.
        package: The package to install, if it is not part of PyTorch.
        traces_whole: Whether torch.compile traces it without a graph break.
    """

    diffusers_name: str
    capability: tuple[int, int]
    package: str | None = None
    traces_whole: bool = False


# Not here: diffusers' `*_hub` backends, which fetch code from a hub and run it when a model is loaded.
_KERNELS: dict[Attention, _Kernels] = {
    "native": _Kernels("native", (0, 0), traces_whole=True),
    "cudnn": _Kernels("_native_cudnn", (8, 0), traces_whole=True),
    "flash": _Kernels("flash", (8, 0), package="flash-attn"),
    "flash_3": _Kernels("_flash_3", (9, 0), package="flash-attn-3 (flash_attn_interface)"),
    "sage": _Kernels("sage", (8, 0), package="sageattention"),
    "xformers": _Kernels("xformers", (7, 0), package="xformers"),
}
_HALF = (torch.bfloat16, torch.float16)


def check_attention(attention: Attention, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse kernels that this device and number format cannot run, before anything is loaded.

    Raises:
        ValueError: no CUDA device, one that is too old, or a format of 32 bits.
    """
    if attention == "native":
        return
    if device.type != "cuda":
        raise ValueError(f"model.attention: {attention} needs a CUDA device; use native on a CPU")
    needed, found = _KERNELS[attention].capability, torch.cuda.get_device_capability(device)
    if found < needed:
        raise ValueError(
            f"model.attention: {attention} needs compute capability {needed[0]}.{needed[1]}, this device has "
            f"{found[0]}.{found[1]}; use native"
        )
    if dtype not in _HALF:
        raise ValueError(f"model.attention: {attention} computes in bfloat16 or float16, not {dtype}; set dtype")


def set_attention(transformer: Any, attention: Attention) -> None:
    """Let every attention layer of a diffusers transformer use these kernels.

    Raises:
        ValueError: their package is missing, too old or broken.
    """
    if attention == "native":
        return
    kernels = _KERNELS[attention]
    try:
        transformer.set_attention_backend(kernels.diffusers_name)
    except (RuntimeError, ImportError) as error:
        needs = f" needs the package {kernels.package}" if kernels.package else " cannot be used"
        raise ValueError(f"model.attention: {attention}{needs}: {error}") from error


def traces_whole(attention: Attention) -> bool:
    """Whether a block with these kernels compiles into one graph, without breaks around them."""
    return _KERNELS[attention].traces_whole
