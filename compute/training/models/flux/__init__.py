"""FLUX.1: flow matching on latents that are packed 2x2."""

from pathlib import Path
from typing import TYPE_CHECKING

from compute.training.models.base import Denoiser, Encoders, TrainableFamily

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from compute.training.spec import TrainingSpec

__all__ = ["FAMILY"]


def _load_encoders(folder: Path, *, device: "torch.device", dtype: "torch.dtype") -> Encoders:
    from compute.training.models.flux.encoders import load_flux_encoders

    return load_flux_encoders(folder, device=device, dtype=dtype)


def _load_denoiser(folder: Path, spec: "TrainingSpec", *, device: "torch.device", dtype: "torch.dtype") -> Denoiser:
    from compute.training.models.flux.network import load_flux_denoiser

    return load_flux_denoiser(folder, spec, device=device, dtype=dtype)


def _decode(folder: Path, latents: "torch.Tensor", *, device: "torch.device") -> "Image.Image":
    from compute.training.models.flux.encoders import decode

    return decode(folder, latents, device=device)


FAMILY = TrainableFamily(
    name="flux",
    size_multiple=16,
    weightings=frozenset({"none", "sigma_sqrt", "cosmap"}),
    part="transformer",
    load_encoders=_load_encoders,
    load_denoiser=_load_denoiser,
    decode=_decode,
    tiny_name="tiny-flux",
)
