"""FLUX.1 Fill: generates the open part of a mask, with the rest of the image as further channels of its input.

Inpainting on the base weights only puts the rest back; these weights see it, and the mask, at every step.
"""

from typing import Any

import torch
from diffusers import FluxFillPipeline, FluxPipeline
from diffusers.utils.torch_utils import randn_tensor

from compute.errors import InvalidInput
from compute.pipelines.flux.inputs import FluxInputs, FluxStart, first_step, on_same_parts
from compute.pipelines.flux.vae import FluxVae
from compute.worker.protocol import GenerateRequest

__all__ = ["FillInputs"]


class FillInputs(FluxInputs):
    """The inputs of FLUX.1 Fill: an image and a mask, whose white part is generated. There is no true guidance, as in
    diffusers' pipeline."""

    def __init__(self, parts: FluxPipeline) -> None:
        self._fill = on_same_parts(_FillFromLatents, parts)
        self.pipelines = {"fill": self._fill}
        self.vae = FluxVae(self._fill)

    def check(self, request: GenerateRequest) -> None:
        for name in ("image", "mask"):
            if getattr(request, name) is None:
                raise InvalidInput("FLUX.1 Fill needs an image and a mask", field=name)
        if request.references:
            raise InvalidInput("This model looks at no further images; FLUX.1 Kontext does.", field="references")
        if request.negative_prompt is not None and request.true_cfg_scale > 1:
            raise InvalidInput("FLUX.1 Fill has no negative prompt", field="negative_prompt")

    def make(self, request: GenerateRequest, generator: torch.Generator) -> FluxStart:
        width, height = request.width, request.height
        if request.image is None or request.mask is None:
            raise InvalidInput("FLUX.1 Fill needs an image and a mask", field="mask")
        pixels = self.vae.pixels(request.image, width, height)
        mask = self._fill.mask_processor.preprocess(request.mask, height=height, width=width)
        latents = self.vae.encode(pixels, generator)
        strength, first = first_step(request)
        arguments: dict[str, Any] = {
            "image": latents,
            "masked_image_latents": self._seen(pixels, mask, _behind_the_noise(generator, latents)),
            "strength": strength,
            "joint_attention_kwargs": {},  # as the other pipelines have it: None would compile the blocks anew
        }
        return FluxStart("fill", arguments, first)

    def _seen(self, pixels: torch.Tensor, mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The transformer's view of the image, and the mask, in patches (1, tokens, 64 + 256 channels)."""
        masked = (pixels * (1 - mask)).to(device=self.vae.device, dtype=self.vae.dtype)
        packed, seen = self._fill.prepare_mask_latents(
            mask,
            masked,
            batch_size=1,
            num_channels_latents=self._fill.latent_channels,
            num_images_per_prompt=1,
            height=pixels.shape[2],
            width=pixels.shape[3],
            dtype=self.vae.dtype,
            device=self.vae.device,
            generator=generator,
        )
        return torch.cat((seen, packed), dim=-1)


class _FillFromLatents(FluxFillPipeline):
    """diffusers' pipeline, called with the image and with the transformer's view of it, both encoded before.

    Its own check accepts one of the two, but its code needs both in order to encode nothing.
    """

    def check_inputs(self, *arguments: Any, image: Any = None, **others: Any) -> None:
        super().check_inputs(*arguments, **others)


def _behind_the_noise(generator: torch.Generator, latents: torch.Tensor) -> torch.Generator:
    """The generator after it has produced the noise: diffusers encodes the masked image only then."""
    behind = torch.Generator("cpu").set_state(generator.get_state())
    randn_tensor(latents.shape, generator=behind, device=latents.device, dtype=latents.dtype)
    return behind
