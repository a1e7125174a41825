"""The VAE of FLUX.1, used outside diffusers' pipelines so that it can run concurrently with the denoising."""

from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device
from PIL import Image

from compute.imaging.resize import at_size

__all__ = ["FluxVae"]


class FluxVae:
    """Encodes images to latents and decodes them. Not safe for concurrent use.

    The arithmetic is that of diffusers' FLUX pipelines, in the same order, so that the pixels are the same.
    """

    def __init__(self, pipeline: Any) -> None:
        """Use the VAE and the image processor of this pipeline."""
        self._vae = pipeline.vae
        self._processor = pipeline.image_processor
        self._unpack = pipeline._unpack_latents
        self._factor = pipeline.vae_scale_factor

    @property
    def device(self) -> torch.device:
        """The device where it computes; with offloading its weights are elsewhere."""
        device: torch.device = get_module_execution_device(self._vae)
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self._vae.dtype
        return dtype

    def pixels(self, image: Image.Image, width: int, height: int) -> torch.Tensor:
        """The image, scaled to this size, as floats from -1 to 1 in main memory: (1, 3, height, width)."""
        scaled = at_size(image.convert("RGB"), (width, height))
        pixels: torch.Tensor = self._processor.preprocess(scaled, height=height, width=width)
        return pixels

    def encode(self, pixels: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """Latents (1, channels, height / 8, width / 8), sampled with `generator`; without one, the most likely ones."""
        found = self._vae.encode(pixels.to(device=self.device, dtype=self.dtype)).latent_dist
        latents: torch.Tensor = found.mode() if generator is None else found.sample(generator)
        return (latents - self._vae.config.shift_factor) * self._vae.config.scaling_factor

    def decode(self, packed: torch.Tensor, width: int, height: int) -> torch.Tensor:
        """The pixels of latents in patches (1, tokens, 4 * channels), about from -1 to 1: (1, 3, height, width)."""
        latents = self._unpack(packed, height, width, self._factor)
        latents = (latents / self._vae.config.scaling_factor) + self._vae.config.shift_factor
        return torch.as_tensor(self._vae.decode(latents.to(self.device), return_dict=False)[0])

    def image(self, decoded: torch.Tensor) -> Image.Image:
        """The RGB image of decoded pixels."""
        image: Image.Image = self._processor.postprocess(decoded, output_type="pil")[0]
        return image
