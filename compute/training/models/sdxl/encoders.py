"""SDXL's VAE and its two CLIP text encoders: encode images and captions before the training."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from compute.training.models.base import ImageFacts, Tensors
from compute.training.models.samples import sample_image
from compute.training.models.sdxl.noise import time_ids

__all__ = ["SdxlEncoders", "decode", "load_sdxl_encoders"]


def load_sdxl_encoders(folder: Path, *, device: torch.device, dtype: torch.dtype) -> "SdxlEncoders":
    """Load everything in the folder except the UNet. The VAE is float32 if its configuration asks for that.

    Raises:
        OSError: a file is missing or damaged.
    """
    vae_config = AutoencoderKL.load_config(folder / "vae", local_files_only=True)
    vae = _load_vae(folder, torch.float32 if vae_config.get("force_upcast", True) else dtype)
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, vae=vae, unet=None, dtype=dtype, use_safetensors=True, local_files_only=True
    )
    return SdxlEncoders(pipeline.to(device))


class SdxlEncoders:
    """Implements `Encoders`.

    The empty prompt is zeros if the folder's model_index.json says so (`force_zeros_for_empty_prompt`), as in SDXL's
    own
    training; otherwise it is encoded like any other.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._zeros_for_empty = bool(pipeline.config.force_zeros_for_empty_prompt)

    @torch.no_grad()
    def encode_image(self, pixels: torch.Tensor, about: ImageFacts | None = None) -> Tensors:
        vae = self._pipeline.vae
        found = vae.encode(pixels.unsqueeze(0).to(vae.device, vae.dtype)).latent_dist
        scale = vae.config.scaling_factor
        height, width = pixels.shape[-2:]
        about = about or ImageFacts(original_size=(width, height))
        return {
            "mean": (found.mean[0] * scale).float().cpu(),
            "std": (found.std[0] * scale).float().cpu(),
            "time_ids": time_ids(about.original_size, about.crop_top_left, (width, height)),
        }

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Tensors:
        """Encode a caption.

        `prompt_embeds`: the last hidden states but one of both encoders, concatenated, (tokens, width); `pooled`: the
        projected
        output of the second, (width,).
        """
        embeds, _, pooled, _ = self._pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
        if not prompt and self._zeros_for_empty:
            embeds, pooled = torch.zeros_like(embeds), torch.zeros_like(pooled)
        return {"prompt_embeds": embeds[0].cpu(), "pooled": pooled[0].cpu()}


def decode(folder: Path, latents: torch.Tensor, *, device: torch.device) -> Image.Image:
    """Decode latents (1, channels, height / 8, width / 8), scaled as the UNet reads them, to an RGB image.

    It is decoded in float32: SDXL's own VAE overflows in 16 bits.
    """
    vae, processor = _vae(folder)
    vae.to(device)
    try:
        with torch.no_grad():
            unscaled = latents.float() / vae.config.scaling_factor
            decoded = vae.decode(unscaled.to(device), return_dict=False)[0]
    finally:
        # Between samples the training needs the memory.
        vae.to("cpu")
    return sample_image(decoded, processor)


@lru_cache(maxsize=1)
def _vae(folder: Path) -> tuple[Any, Any]:
    return _load_vae(folder, torch.float32), VaeImageProcessor(vae_scale_factor=8)


def _load_vae(folder: Path, dtype: torch.dtype) -> Any:
    return AutoencoderKL.from_pretrained(folder / "vae", dtype=dtype, use_safetensors=True, local_files_only=True)
