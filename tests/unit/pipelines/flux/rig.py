"""Shared by the tests of FLUX's uses: a mask, plain diffusers beside ours, and the distance of two pictures."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from compute.pipelines import ModelConfig, load
from compute.pipelines.flux.model import FluxModel
from compute.worker.protocol import GenerateRequest
from tests.unit.pipelines.conftest import BASE, silent

VISIBLE = 2.0
"""Mean difference per pixel and channel, of 255, that anybody would see."""


@cache
def model_of(family: str, models_root: Path, **settings: Any) -> FluxModel:
    """The tiny model of a family; loading one is the slow part."""
    config = ModelConfig(model=f"tiny-{family}", family=family, device="cpu", **settings)
    return cast("FluxModel", load(config, models_root))


def right_half(width: int = 64, height: int = 64) -> Image.Image:
    """A mask that leaves the right half open."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (width // 2, 0, width, height))
    return mask


def pixels(model: FluxModel, request: GenerateRequest) -> np.ndarray:
    return np.asarray(model.generate(request, silent)).astype(int)


def latents(model: FluxModel, request: GenerateRequest) -> torch.Tensor:
    return model.denoise(model.prepare(request), silent).packed


def plain(pipeline_class: Any, folder: Path, request: GenerateRequest, **arguments: Any) -> np.ndarray:
    """What diffusers' own pipeline draws, loaded by itself from the same files."""
    pipeline = pipeline_class.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    if request.negative_prompt is not None:
        arguments |= {"negative_prompt": request.negative_prompt, "true_cfg_scale": request.true_cfg_scale}
    images = pipeline(
        prompt=request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        **arguments,
    ).images
    return np.asarray(images[0]).astype(int)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def changed(request: GenerateRequest = BASE, **changes: Any) -> GenerateRequest:
    return replace(request, **changes)
