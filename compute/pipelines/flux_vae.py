"""The VAE of FLUX.1, used outside diffusers' pipelines so that it can work beside the denoising."""

from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device
from PIL import Image

__all__ = ["FluxVae"]


class FluxVae:
    """Pictures to latents and back. Not safe for concurrent use.

    The arithmetic is that of diffusers' `FluxPipeline` and `FluxImg2ImgPipeline`, in the same order, so that the
    pixels are theirs.
    """

    def __init__(self, img2img: Any) -> None:
        """Use the VAE and the image processor of this pipeline."""
        self._vae = img2img.vae
        self._processor = img2img.image_processor
        self._unpack = img2img._unpack_latents
        self._factor = img2img.vae_scale_factor

    def encode(self, image: Image.Image, width: int, height: int, generator: torch.Generator) -> torch.Tensor:
        """The picture, scaled to this size in pixels, as latents (1, channels, height / 8, width / 8)."""
        start = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        pixels = self._processor.preprocess(start, height=height, width=width)
        pixels = pixels.to(device=get_module_execution_device(self._vae), dtype=self._vae.dtype)
        latents: torch.Tensor = self._vae.encode(pixels).latent_dist.sample(generator)
        return (latents - self._vae.config.shift_factor) * self._vae.config.scaling_factor

    def decode(self, packed: torch.Tensor, width: int, height: int) -> Image.Image:
        """The RGB picture of latents in patches (1, tokens, 4 * channels)."""
        latents = self._unpack(packed, height, width, self._factor)
        latents = (latents / self._vae.config.scaling_factor) + self._vae.config.shift_factor
        decoded = self._vae.decode(latents.to(get_module_execution_device(self._vae)), return_dict=False)[0]
        picture: Image.Image = self._processor.postprocess(decoded, output_type="pil")[0]
        return picture
