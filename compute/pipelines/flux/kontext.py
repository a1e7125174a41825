"""FLUX.1 Kontext: edits an image by an instruction, with further images as references.

The input images are tokens next to the generated ones, distinguished by the first of their three position ids: 0 for
generated tokens, 1 for inputs (arXiv:2506.15742). The paper numbers further images up from there, but the published
weights were trained with one image, so an id of 2 means nothing to them, and images with the same positions mix. Here
further images are placed to the right of the first: each is encoded by itself, scaled to the height of the result, and
takes the following positions. For the model, and for diffusers' pipeline, that is one wide image.
"""

from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image, ImageOps

from compute.errors import InvalidInput
from compute.pipelines.flux.inputs import Blend, FluxInputs, FluxStart, first_step, on_same_parts
from compute.pipelines.flux.vae import FluxVae
from compute.worker.protocol import GenerateRequest

__all__ = ["KontextInputs"]

_GRID = 16
"""Pixels of a token."""
_WIDEST = 2
"""A reference takes at most this many times the width of the result; a wider one is padded instead."""


class KontextInputs(FluxInputs):
    """The inputs of Kontext: `image` is edited, `references` are shown to the model; without images it generates from
    the prompt.

    Below a strength of 1 the denoising begins from the noised image and not from noise alone (SDEdit,
    arXiv:2108.01073). With a mask, its black part is put back after every step, as in inpainting. Both are done like
    in diffusers' `FluxKontextInpaintPipeline`.
    """

    def __init__(self, parts: FluxPipeline) -> None:
        kontext = on_same_parts(FluxKontextPipeline, parts)
        self.pipelines = {"edit": kontext}
        self.vae = FluxVae(kontext)
        self._pack = kontext._pack_latents
        # A scheduler of its own: that of the pipelines belongs to the request being denoised.
        self._scheduler = FlowMatchEulerDiscreteScheduler.from_config(parts.scheduler.config)
        self._masks = VaeImageProcessor(do_normalize=False, do_binarize=True, do_convert_grayscale=True)

    def check(self, request: GenerateRequest) -> None:
        if request.image is None and request.references:
            raise InvalidInput("References need the image that is to be changed.", field="image")
        if request.image is None and request.mask is not None:
            raise InvalidInput("A mask needs the image that it belongs to.", field="mask")

    def make(self, request: GenerateRequest, generator: torch.Generator) -> FluxStart:
        # The requested number of pixels; the pipeline would otherwise scale every size to a megapixel.
        size = {"max_area": request.width * request.height}
        if request.image is None:
            return FluxStart("edit", size)
        image = self.vae.encode(self.vae.pixels(request.image, request.width, request.height), None)
        others = [self._reference(image, request) for image in request.references]
        arguments: dict[str, Any] = size | {"image": torch.cat([image, *others], dim=3)}
        _, first = first_step(request)
        if first == 0 and request.mask is None:
            return FluxStart("edit", arguments)
        noise = randn_tensor(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        sigmas = np.linspace(1.0, 1 / request.steps, request.steps)[first:]
        schedule = self._schedule(sigmas, image)
        arguments |= {"sigmas": sigmas, "latents": self._packed(_noised(image, noise, schedule[0]))}
        return FluxStart("edit", arguments, first, self._blend(request, image, noise, schedule))

    def _reference(self, image: Image.Image, request: GenerateRequest) -> torch.Tensor:
        width = round(request.height * image.width / image.height / _GRID) * _GRID
        width = min(max(width, _GRID), _WIDEST * request.width)
        fitted = ImageOps.pad(image.convert("RGB"), (width, request.height), Image.Resampling.LANCZOS, color="white")
        return self.vae.encode(self.vae.pixels(fitted, width, request.height), None)

    def _schedule(self, sigmas: np.ndarray, image: torch.Tensor) -> torch.Tensor:
        """The share of noise before each of these steps, and 0 after the last, the same as in the pipeline."""
        config = self._scheduler.config
        tokens = image.shape[2] * image.shape[3] // 4
        mu = calculate_shift(
            tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
        )
        self._scheduler.set_timesteps(sigmas=sigmas, mu=mu)
        return self._scheduler.sigmas.to(device=image.device, dtype=image.dtype)

    def _blend(
        self, request: GenerateRequest, image: torch.Tensor, noise: torch.Tensor, schedule: torch.Tensor
    ) -> Blend | None:
        if request.mask is None:
            return None
        pixels = self._masks.preprocess(request.mask, height=request.height, width=request.width)
        small = torch.nn.functional.interpolate(pixels, size=image.shape[2:])
        mask = self._packed(small.to(image).expand(image.shape))
        image, noise = self._packed(image), self._packed(noise)

        def blend(index: int, latents: torch.Tensor) -> torch.Tensor:
            return (1 - mask) * _noised(image, noise, schedule[index + 1]) + mask * latents

        return blend

    def _packed(self, latents: torch.Tensor) -> torch.Tensor:
        packed: torch.Tensor = self._pack(latents, *latents.shape)
        return packed


def _noised(image: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return sigma * noise + (1.0 - sigma) * image
