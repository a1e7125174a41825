"""Inputs of a FLUX request: encodes its images before the denoising, and selects the diffusers pipeline for it.

One set of weights has several uses (text to image, image to image, inpainting), each a diffusers pipeline on the same
parts. FLUX.1 Kontext and FLUX.1 Fill are other weights with uses of their own; see kontext.py and fill.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from diffusers import FluxImg2ImgPipeline, FluxInpaintPipeline, FluxPipeline

from compute.errors import InvalidInput
from compute.pipelines.flux.vae import FluxVae
from compute.worker.protocol import GenerateRequest

__all__ = ["Blend", "FluxInputs", "FluxStart", "TextInputs", "first_step", "on_same_parts"]

# At or below this share of the noise no schedule of up to a thousand steps runs more than its last step; a smaller
# value would round to none, which diffusers refuses.
_LEAST_STRENGTH = 1e-3

Blend = Callable[[int, torch.Tensor], torch.Tensor]
"""Called after each step with its index and the latents in patches (1, tokens, channels); returns the new latents."""


@dataclass(frozen=True, slots=True)
class FluxStart:
    """The start of one request's denoising. It refers to tensors but no part of a model, so a model can be unloaded.

    Attributes:
        use: The use of the weights that denoises it: a key of `FluxInputs.pipelines`.
        arguments: The arguments of its pipeline, besides prompts and sizes.
        first_step: The first step of the schedule that is run; above 0 if part of an image is kept.
        blend: Applied to the latents after every step.
    """

    use: str
    arguments: dict[str, Any] = field(default_factory=dict)
    first_step: int = 0
    blend: Blend | None = None

    def tensors(self) -> list[torch.Tensor]:
        return [value for value in self.arguments.values() if isinstance(value, torch.Tensor)]


class FluxInputs(ABC):
    """Prepares the images of requests for one kind of FLUX weights. Not safe for concurrent use.

    Attributes:
        pipelines: A diffusers pipeline for each use, all on the same parts.
        vae: The VAE of these parts.
    """

    pipelines: Mapping[str, Any]
    vae: FluxVae

    @abstractmethod
    def __init__(self, parts: FluxPipeline) -> None:
        """`parts`: the pipeline whose transformer, VAE and scheduler are shared."""

    @abstractmethod
    def check(self, request: GenerateRequest) -> None:
        """Refuse requests that these weights cannot serve.

        Raises:
            InvalidInput: an image is missing, or one would be ignored.
        """

    @abstractmethod
    def make(self, request: GenerateRequest, generator: torch.Generator) -> FluxStart:
        """Encode the request's images. The caller has exclusive use of the VAE.

        It advances `generator` exactly like diffusers' pipeline does before the noise, so that the noise is the same.
        """


class TextInputs(FluxInputs):
    """FLUX.1-dev and -schnell: text to image, image to image, and inpainting if there is a mask.

    Inpainting keeps the unmasked latents by putting them back, with the noise of the step, after every step
    (diffusers' `FluxInpaintPipeline`; the idea of RePaint, arXiv:2201.09865).
    """

    def __init__(self, parts: FluxPipeline) -> None:
        inpaint = on_same_parts(FluxInpaintPipeline, parts)
        self.pipelines = {
            "txt2img": parts,
            "img2img": on_same_parts(FluxImg2ImgPipeline, parts),
            "inpaint": inpaint,
        }
        self.vae = FluxVae(inpaint)
        self._masks = inpaint.mask_processor

    def check(self, request: GenerateRequest) -> None:
        if request.mask is not None and request.image is None:
            raise InvalidInput("A mask needs the image that it belongs to.", field="mask")
        if request.references:
            raise InvalidInput("This model looks at no further images; FLUX.1 Kontext does.", field="references")

    def make(self, request: GenerateRequest, generator: torch.Generator) -> FluxStart:
        if request.image is None:
            return FluxStart("txt2img")
        width, height = request.width, request.height
        latents = self.vae.encode(self.vae.pixels(request.image, width, height), generator)
        strength, first = first_step(request)
        arguments: dict[str, Any] = {"image": latents, "strength": strength}
        if request.mask is None:
            return FluxStart("img2img", arguments, first)
        arguments["mask_image"] = self._masks.preprocess(request.mask, height=height, width=width)
        # Only transformers with extra channels read these; without them the pipeline would encode a masked image.
        arguments["masked_image_latents"] = latents
        return FluxStart("inpaint", arguments, first)


def first_step(request: GenerateRequest) -> tuple[float, int]:
    """The strength that diffusers accepts, and the first step that it will run; rounded like its pipelines."""
    strength = max(request.strength, _LEAST_STRENGTH)
    return strength, int(request.steps - request.steps * strength)


def on_same_parts(pipeline_class: Any, parts: FluxPipeline) -> Any:
    """Another diffusers pipeline on the same parts, so that hooks and LoRAs serve both.

    Not `from_pipe`: it casts the shared parts, to float32 by default.
    """
    accepted = signature(pipeline_class.__init__).parameters
    pipeline = pipeline_class(**{name: part for name, part in parts.components.items() if name in accepted})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
