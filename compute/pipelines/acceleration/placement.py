"""Places a pipeline: device, number format, attention kernels, offloading."""

from typing import Any

import torch

from compute.pipelines.acceleration.attention import check_attention, set_attention
from compute.pipelines.acceleration.quantization import check_fp8
from compute.pipelines.config import ModelConfig

__all__ = ["pick_device", "pick_dtype", "place", "place_weights"]


def pick_device(config: ModelConfig) -> torch.device:
    """The configured device; `auto` is CUDA if available.

    Raises:
        ValueError: a CUDA device is configured, or needed by another setting, and there is none.
    """
    available = torch.cuda.is_available()
    device = torch.device(("cuda" if available else "cpu") if config.device == "auto" else config.device)
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"model.device: {config.device} is not there ({torch.cuda.device_count()} CUDA devices)")
    if device.type != "cuda":
        _refuse_without_cuda(config)
    _check_kernels(config, device)
    return device


def pick_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The configured number format; `auto` is bfloat16 if the device computes in it."""
    if config.dtype != "auto":
        dtype: torch.dtype = getattr(torch, config.dtype)
        return dtype
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def place(pipeline: Any, config: ModelConfig, device: torch.device) -> None:
    """Bring a loaded pipeline into the configured state. Call it once, after pipelines that share its parts exist.

    The transformer's weights must have their final form: quantised (`to_fp8`) first, LoRA layers second. Wrappers of
    its blocks come later: `CompiledBlocks` first, `StepCache` second.

    Raises:
        ValueError: the attention kernels are not installed.
    """
    set_attention(pipeline.transformer, config.attention)
    if config.vae_tile is not None:
        _tile(pipeline.vae, config.vae_tile)
    if device.type == "cuda":
        # The layout that its convolutions compute in; otherwise they would convert back and forth each time.
        pipeline.vae.to(memory_format=torch.channels_last)
    place_weights(pipeline, config, device)


def place_weights(pipeline: Any, config: ModelConfig, device: torch.device) -> None:
    """Move the weights to the device, or leave them in main memory until they are used, as configured."""
    if config.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif config.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)


def _check_kernels(config: ModelConfig, device: torch.device) -> None:
    dtype = pick_dtype(config, device)
    check_attention(config.attention, device, dtype)
    if config.quantization == "fp8":
        check_fp8(device, dtype)


def _tile(vae: Any, pixels: int) -> None:
    """Let a diffusers VAE process images with a longer side in overlapping tiles of this size."""
    vae.enable_tiling()
    vae.tile_sample_min_size = pixels
    vae.tile_latent_min_size = pixels // 2 ** (len(vae.config.block_out_channels) - 1)


def _refuse_without_cuda(config: ModelConfig) -> None:
    if config.offload != "none":
        raise ValueError(f"model.offload: {config.offload} needs a CUDA device; use none on a CPU")
    if config.text_encoders != "device":
        raise ValueError(f"model.text_encoders: {config.text_encoders} needs a CUDA device; use device on a CPU")
    if config.compile == "reduce-overhead":
        raise ValueError("model.compile: reduce-overhead (CUDA graphs) needs a CUDA device; use default on a CPU")
