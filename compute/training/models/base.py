"""The interface of a trainable family of models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compute.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from compute.training.spec import TrainingSpec

__all__ = ["Denoiser", "Encoders", "ImageFacts", "Tensors", "TrainableFamily"]

Tensors = dict[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Size and crop of a training image's file, which some models take as conditions.

    Attributes:
        original_size: (width, height) of the file in pixels, before it was scaled and cropped.
        crop_top_left: (top, left) of the crop, in pixels of the scaled image.
    """

    original_size: tuple[int, int]
    crop_top_left: tuple[int, int] = (0, 0)


class Encoders(Protocol):
    """The frozen parts, used before the training and not during it: the VAE and the text encoders."""

    def encode_image(self, pixels: "torch.Tensor", about: ImageFacts | None = None) -> Tensors:
        """Encode an image: `mean` and `std` of its latents, (channels, height / 8, width / 8), scaled as the network
        reads them,
        and further tensors of the family, all in main memory.

        `pixels`: (3, height, width), floats from -1 to 1. `about`: by default the size of `pixels`, uncropped.
        """
        ...

    def encode_prompt(self, prompt: str) -> Tensors:
        """Encode a caption for the network, without a batch dimension, in main memory."""
        ...


class Denoiser(Protocol):
    """The network that is trained.

    Attributes:
        module: The network in training mode on its device.
        lora_targets: The layers that a LoRA adapts, in PEFT's form.
    """

    module: Any
    lora_targets: Sequence[str]

    def loss(self, latents: "torch.Tensor", batch: Tensors, random: "torch.Generator") -> "torch.Tensor":
        """Return the weighted loss of each image, (images,), as float32 with a gradient.

        `latents`: (images, channels, height, width), sampled from `mean` and `std`. `batch`: the stacked results of
        `encode_image` and `encode_prompt`. `random`, on the module's device, samples noise and timesteps.
        """
        ...

    def denoise(
        self,
        prompt: Tensors,
        spec: "TrainingSpec",
        *,
        seed: int,
        size: tuple[int, int],
        negative: Tensors | None = None,
    ) -> "torch.Tensor":
        """Generate the latents of a sample image, (1, channels, height / 8, width / 8), for the family's `decode`.

        `size` is (width, height) in pixels; `negative` the empty prompt, for classifier-free guidance.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrainableFamily:
    """A family of models of one architecture that can be trained.

    Attributes:
        name: The value of `family` in a model's entry in the registry.
        size_multiple: Width and height of training images are multiples of this many pixels.
        weightings: The supported values of `weighting`.
        part: The part of the diffusers folder that is trained: `transformer` or `unet`.
        load_encoders: From a diffusers folder, to a device, in a dtype.
        load_denoiser: The same for the network, which has the dtype that it is given.
        decode: Decodes the latents of `Denoiser.denoise` to an image, with the VAE of the folder on a device.
        tiny_name: The name of the random-weight model of this architecture.
        build_tiny: Writes that model to a folder, if no family of `compute.pipelines` does.
    """

    name: str
    size_multiple: int
    weightings: frozenset[str]
    part: str
    load_encoders: "LoadEncoders"
    load_denoiser: "LoadDenoiser"
    decode: "Decode"
    tiny_name: str
    build_tiny: Callable[[Path], None] | None = None

    def check_weighting(self, weighting: str) -> None:
        """Check that the family supports a weighting.

        Raises:
            InvalidInput: it does not.
        """
        if weighting not in self.weightings:
            known = ", ".join(sorted(self.weightings))
            raise InvalidInput(
                f"Field `weighting` must be one of {known} for models of family {self.name}, not {weighting}.",
                field="weighting",
            )


class LoadEncoders(Protocol):
    def __call__(self, folder: Path, *, device: "torch.device", dtype: "torch.dtype") -> Encoders: ...


class LoadDenoiser(Protocol):
    def __call__(
        self, folder: Path, spec: "TrainingSpec", *, device: "torch.device", dtype: "torch.dtype"
    ) -> Denoiser: ...


class Decode(Protocol):
    def __call__(self, folder: Path, latents: "torch.Tensor", *, device: "torch.device") -> "Image.Image": ...
