"""Where and how a pipeline computes: device, number format, attention kernels, offloading, compilation."""

from typing import Any

import torch

from compute.pipelines.config import ModelConfig

__all__ = ["pick_device", "pick_dtype", "place"]


def pick_device(config: ModelConfig) -> torch.device:
    """The configured device; `auto` is CUDA where there is one.

    Raises:
        ValueError: a CUDA device is asked for, or needed by another setting, and there is none.
    """
    available = torch.cuda.is_available()
    device = torch.device(("cuda" if available else "cpu") if config.device == "auto" else config.device)
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"model.device: {config.device} is not there ({torch.cuda.device_count()} CUDA devices)")
    if device.type != "cuda":
        _refuse_without_cuda("attention", config.attention, allowed="native")
        _refuse_without_cuda("offload", config.offload, allowed="none")
    return device


def pick_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The configured number format; `auto` is bfloat16 where the device computes in it."""
    if config.dtype != "auto":
        dtype: torch.dtype = getattr(torch, config.dtype)
        return dtype
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def place(pipeline: Any, config: ModelConfig, device: torch.device) -> None:
    """Bring a loaded pipeline into the configured state. Call it once, after pipelines that share its parts exist.

    Raises:
        ValueError: the attention kernels are not installed.
    """
    _set_attention(pipeline.transformer, config.attention)
    if config.compile:
        # Without fullgraph: LoRAs come and go, and past the limit of recompilations a block must still run.
        pipeline.transformer.compile_repeated_blocks()
    if config.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif config.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)


def _refuse_without_cuda(setting: str, value: str, *, allowed: str) -> None:
    if value != allowed:
        raise ValueError(f"model.{setting}: {value} needs a CUDA device; use {allowed} on a CPU")


def _set_attention(transformer: Any, attention: str) -> None:
    if attention == "native":
        return
    package = {"xformers": "xformers", "flash": "flash-attn"}[attention]
    try:
        transformer.set_attention_backend(attention)
    except (RuntimeError, ImportError) as error:
        raise ValueError(f"model.attention: {attention} needs the package {package}: {error}") from error
