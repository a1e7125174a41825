"""Stable Diffusion XL: denoising diffusion with a UNet that is conditioned on an image's size and crop."""

from pathlib import Path
from typing import TYPE_CHECKING

from compute.training.models.base import Denoiser, Encoders, TrainableFamily

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from compute.training.spec import TrainingSpec

__all__ = ["FAMILY"]


def _load_encoders(folder: Path, *, device: "torch.device", dtype: "torch.dtype") -> Encoders:
    from compute.training.models.sdxl.encoders import load_sdxl_encoders

    return load_sdxl_encoders(folder, device=device, dtype=dtype)


def _load_denoiser(folder: Path, spec: "TrainingSpec", *, device: "torch.device", dtype: "torch.dtype") -> Denoiser:
    from compute.training.models.sdxl.network import load_sdxl_denoiser

    return load_sdxl_denoiser(folder, spec, device=device, dtype=dtype)


def _decode(folder: Path, latents: "torch.Tensor", *, device: "torch.device") -> "Image.Image":
    from compute.training.models.sdxl.encoders import decode

    return decode(folder, latents, device=device)


def _build_tiny(folder: Path) -> None:
    from compute.pipelines.tiny.sdxl import save_tiny_sdxl

    save_tiny_sdxl(folder)


FAMILY = TrainableFamily(
    name="sdxl",
    # As the model was trained; its UNet halves the latents twice, so it needs at least 32.
    size_multiple=64,
    weightings=frozenset({"none", "min_snr"}),
    part="unet",
    load_encoders=_load_encoders,
    load_denoiser=_load_denoiser,
    decode=_decode,
    tiny_name="tiny-sdxl",
    build_tiny=_build_tiny,
)
