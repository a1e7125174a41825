"""Shared by the tests of SDXL: a spec, the tiny model's parts, and two pictures to learn."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from diffusers import StableDiffusionXLPipeline

from compute.training.models.base import Encoders, Tensors
from compute.training.models.sdxl import FAMILY
from compute.training.models.sdxl.network import SdxlDenoiser, load_sdxl_denoiser
from compute.training.spec import TrainingSpec

CPU = torch.device("cpu")
CAPTIONS = ("a red square", "a blue disc")


def spec_of(*, guidance_scale: float = 5.0, steps: int = 3, **changes: Any) -> TrainingSpec:
    """A LoRA for the tiny model, with some fields changed; the two named ones are those of its samples."""
    fields: dict[str, Any] = {
        "id": UUID(int=1),
        "output_name": "square",
        "trigger_word": "sks",
        "model": {"name": "tiny", "source": "tiny-sdxl", "family": "sdxl", "resolution": 64},
        "data": {"images": ("a.png", "b.png")},
        "samples": {"guidance_scale": guidance_scale, "steps": steps},
        "steps": 10,
    }
    return TrainingSpec.model_validate(fields | changes)


def denoiser_of(folder: Path, spec: TrainingSpec | None = None, dtype: torch.dtype = torch.float32) -> SdxlDenoiser:
    return load_sdxl_denoiser(folder, spec or spec_of(), device=CPU, dtype=dtype)


def encoders_of(folder: Path, dtype: torch.dtype = torch.float32) -> Encoders:
    return FAMILY.load_encoders(folder, device=CPU, dtype=dtype)


def with_config(folder: Path, copy: Path, file: str, **changes: Any) -> Path:
    """A copy of a model with some entries of one of its configuration files changed."""
    shutil.copytree(folder, copy)
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return copy


def pictures() -> list[torch.Tensor]:
    """A red square on white and a blue disc on black, (3, 64, 64) from -1 to 1."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    square = (x > 15) & (x < 48) & (y > 15) & (y < 48)
    disc = (x - 32) ** 2 + (y - 32) ** 2 < 400
    red, blue = torch.tensor([0.8, -0.8, -0.8]), torch.tensor([-0.8, -0.8, 0.8])
    return [
        torch.where(square, red.view(3, 1, 1), torch.tensor(0.8)),
        torch.where(disc, blue.view(3, 1, 1), torch.tensor(-0.8)),
    ]


def batch_of(encoders: Encoders) -> tuple[torch.Tensor, Tensors]:
    """The latents of both pictures, and what goes with them."""
    images = [encoders.encode_image(picture) for picture in pictures()]
    prompts = [encoders.encode_prompt(caption) for caption in CAPTIONS]
    rows = [image | prompt for image, prompt in zip(images, prompts, strict=True)]
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return stacked["mean"], stacked


def plain(pipeline: StableDiffusionXLPipeline, **arguments: Any) -> Any:
    """What diffusers' own pipeline draws: latents, unless the arguments say otherwise."""
    pipeline.set_progress_bar_config(disable=True)
    given: dict[str, Any] = {
        "prompt": CAPTIONS[0],
        "width": 64,
        "height": 64,
        "num_inference_steps": 3,
        "guidance_scale": 5.0,
        "generator": torch.Generator("cpu").manual_seed(7),
        "output_type": "latent",
    }
    with warnings.catch_warnings():
        # diffusers hands tensors to NumPy in a way that NumPy 2 would have otherwise.
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        return pipeline(**(given | arguments)).images
