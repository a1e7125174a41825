"""FLUX.1's VAE, CLIP and T5: encode images and captions before the training."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxPipeline
from PIL import Image

from compute.pipelines.prompts import prompt_tokens
from compute.training.models.base import ImageFacts, Tensors
from compute.training.models.samples import sample_image

__all__ = ["FluxEncoders", "decode", "load_flux_encoders"]

_MOST_TOKENS = 512


def load_flux_encoders(folder: Path, *, device: torch.device, dtype: torch.dtype) -> "FluxEncoders":
    """Load everything in the folder except the transformer.

    Raises:
        OSError: a file is missing or damaged.
    """
    pipeline = FluxPipeline.from_pretrained(folder, transformer=None, dtype=dtype, local_files_only=True)
    pipeline.to(device)
    return FluxEncoders(pipeline)


class FluxEncoders:
    """Implements `Encoders`."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def encode_image(self, pixels: torch.Tensor, about: ImageFacts | None = None) -> Tensors:
        return {name: value[0] for name, value in self.encode_images(pixels.unsqueeze(0)).items()}

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Tensors:
        """Encode images of one size at a time, (images, 3, height, width)."""
        vae = self._pipeline.vae
        found = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        scale = vae.config.scaling_factor
        mean = (found.mean - vae.config.shift_factor) * scale
        return {"mean": mean.cpu(), "std": (found.std * scale).cpu()}

    def encode_prompt(self, prompt: str) -> Tensors:
        return {name: value[0] for name, value in self.encode_prompts([prompt]).items()}

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensors:
        """Encode several captions at a time."""
        tokens = prompt_tokens(self._pipeline, _MOST_TOKENS)
        embeds, pooled, _ = self._pipeline.encode_prompt(
            prompt=list(prompts), prompt_2=None, max_sequence_length=tokens
        )
        return {"prompt_embeds": embeds.cpu(), "pooled": pooled.cpu()}


def decode(folder: Path, latents: torch.Tensor, *, device: torch.device) -> Image.Image:
    """Decode latents (1, channels, height / 8, width / 8), scaled as the transformer reads them, to an RGB image."""
    vae, processor = _vae(folder)
    vae.to(device)
    try:
        with torch.no_grad():
            unscaled = latents.float() / vae.config.scaling_factor + vae.config.shift_factor
            decoded = vae.decode(unscaled.to(device, vae.dtype), return_dict=False)[0]
    finally:
        # Between samples the training needs the memory.
        vae.to("cpu")
    return sample_image(decoded, processor)


@lru_cache(maxsize=1)
def _vae(folder: Path) -> tuple[Any, Any]:
    from diffusers.image_processor import VaeImageProcessor

    vae = AutoencoderKL.from_pretrained(folder / "vae", local_files_only=True).eval()
    return vae, VaeImageProcessor(vae_scale_factor=8)
