"""What a family of models must offer to be trained."""

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
    """Where a training picture comes from; some models are told.

    Attributes:
        original_size: (width, height) of the file in pixels, before it was scaled and cropped.
        crop_top_left: (top, left) of what was cut out, in pixels of the scaled picture.
    """

    original_size: tuple[int, int]
    crop_top_left: tuple[int, int] = (0, 0)


class Encoders(Protocol):
    """The frozen parts, which are needed before the training and not during it: the VAE and the text encoders."""

    def encode_image(self, pixels: "torch.Tensor", about: ImageFacts | None = None) -> Tensors:
        """What a picture is learned as: `mean` and `std` of its latents, (channels, height / 8, width / 8), scaled as
        the network reads them, and whatever else the family needs, all in main memory.

        `pixels`: (3, height, width), floats from -1 to 1. `about`: without it, the file was what `pixels` are.
        """
        ...

    def encode_prompt(self, prompt: str) -> Tensors:
        """A caption as the network reads it, without a batch dimension, in main memory."""
        ...


class Denoiser(Protocol):
    """The network that is trained.

    Attributes:
        module: It, in training mode on its device.
        lora_targets: The layers that a LoRA adapts, as PEFT takes them.
    """

    module: Any
    lora_targets: Sequence[str]

    def loss(self, latents: "torch.Tensor", batch: Tensors, random: "torch.Generator") -> "torch.Tensor":
        """The weighted loss of each picture, (pictures,), as float32 with a gradient.

        `latents`: (pictures, channels, height, width), drawn from `mean` and `std`. `batch`: what `encode_image` and
        `encode_prompt` gave, stacked. `random`, on the module's device, draws noise and timesteps.
        """
        ...

    def draw(
        self,
        prompt: Tensors,
        spec: "TrainingSpec",
        *,
        seed: int,
        size: tuple[int, int],
        negative: Tensors | None = None,
    ) -> "torch.Tensor":
        """Latents of a sample picture, (1, channels, height / 8, width / 8), as the family's `decode` takes them.

        `size` is (width, height) in pixels; `negative` the empty prompt, for models that are guided away from it.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrainableFamily:
    """How models of one architecture are trained.

    Attributes:
        name: The value of `family` in a model's entry in the registry.
        size_multiple: Width and height of training pictures are multiples of this many pixels.
        weightings: The values of `weighting` that mean something here.
        part: The part of the diffusers folder that is trained: `transformer` or `unet`.
        load_encoders: From a diffusers folder, to a device, in a dtype.
        load_denoiser: The same for the network, which comes in the dtype that it is given.
        decode: Draws the picture of what `Denoiser.draw` gave, with the VAE of the folder on a device.
        tiny_name: The name of the random-weight model of this architecture.
        build_tiny: Writes that model into a folder, if no family of `compute.pipelines` does.
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
        """Refuse a weighting of another kind of model.

        Raises:
            InvalidInput: it means nothing here.
        """
        if weighting not in self.weightings:
            known = ", ".join(sorted(self.weightings))
            raise InvalidInput(f"Models of family {self.name} know {known}, not {weighting}.", field="weighting")


class LoadEncoders(Protocol):
    def __call__(self, folder: Path, *, device: "torch.device", dtype: "torch.dtype") -> Encoders: ...


class LoadDenoiser(Protocol):
    def __call__(
        self, folder: Path, spec: "TrainingSpec", *, device: "torch.device", dtype: "torch.dtype"
    ) -> Denoiser: ...


class Decode(Protocol):
    def __call__(self, folder: Path, latents: "torch.Tensor", *, device: "torch.device") -> "Image.Image": ...
