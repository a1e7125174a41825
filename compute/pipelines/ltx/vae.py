"""The VAE of LTX-Video, used outside diffusers' pipeline so that it can run concurrently with the denoising."""

from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device
from PIL import Image

from compute.imaging.resize import at_size

__all__ = ["LtxVae"]

_DECODE_TIMESTEP, _DECODE_NOISE = 0.05, 0.025
"""LTX-Video's own value for decoders that perform the last part of the denoising themselves."""


class LtxVae:
    """Encodes an image to latents, and decodes latents to frames. Not safe for concurrent use.

    The arithmetic is that of diffusers' `LTXConditionPipeline`, in the same order.
    """

    def __init__(self, pipeline: Any) -> None:
        self._vae = pipeline.vae
        self._processor = pipeline.video_processor
        self._normalized = pipeline._normalize_latents
        self._denormalized = pipeline._denormalize_latents

    def encode(self, image: Image.Image, width: int, height: int, generator: torch.Generator) -> torch.Tensor:
        """The image, scaled to this size in pixels, as latents (1, channels, 1, height / 32, width / 32)."""
        frame = at_size(image.convert("RGB"), (width, height))
        pixels = self._processor.preprocess(frame, height, width).unsqueeze(2)
        pixels = pixels.to(device=get_module_execution_device(self._vae), dtype=self._vae.dtype)
        latents = self._vae.encode(pixels).latent_dist.sample(generator)
        return torch.as_tensor(self._normalized(latents, self._vae.latents_mean, self._vae.latents_std)).float()

    def decode(self, latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The pixels of latents (1, channels, latent frames, height / 32, width / 32), about from -1 to 1:
        (3, 8n + 1, height, width)."""
        vae = self._vae
        latents = self._denormalized(latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
        latents = latents.to(device=get_module_execution_device(vae), dtype=vae.dtype)
        timestep = None
        if vae.config.timestep_conditioning:
            noise = torch.randn(latents.shape, generator=generator, dtype=latents.dtype).to(latents.device)
            latents = (1 - _DECODE_NOISE) * latents + _DECODE_NOISE * noise
            timestep = torch.tensor([_DECODE_TIMESTEP], device=latents.device, dtype=latents.dtype)
        return torch.as_tensor(vae.decode(latents, timestep, return_dict=False)[0][0])

    def frames(self, clip: torch.Tensor) -> torch.Tensor:
        """Decoded pixels as RGB bytes in main memory: (8n + 1, height, width, 3)."""
        levels = (clip.float() / 2 + 0.5).clamp(0, 1) * 255
        return torch.as_tensor(levels.round().to(torch.uint8).permute(1, 2, 3, 0).cpu())
