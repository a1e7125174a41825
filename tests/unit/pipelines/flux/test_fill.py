"""FLUX.1 Fill: the picture and its mask are channels of the input, and the numbers are diffusers'."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline
from PIL import Image

from compute.errors import InvalidInput
from compute.pipelines.flux.model import FluxModel
from compute.pipelines.tiny.build import write_tiny_lora
from compute.worker.protocol import GenerateRequest, LoraSelection
from tests.unit.pipelines.flux.rig import VISIBLE, changed, distance, latents, model_of, pixels, plain, right_half


@pytest.fixture
def fill(models_root: Path) -> FluxModel:
    return model_of("flux-fill", models_root)


@pytest.fixture
def request_(picture: Image.Image) -> GenerateRequest:
    return changed(image=picture, mask=right_half(), steps=4, guidance_scale=30.0, role="fill")


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_picture_is_that_of_the_plain_pipeline(
    fill: FluxModel, models_root: Path, request_: GenerateRequest, picture: Image.Image, strength: float
) -> None:
    theirs = plain(
        FluxFillPipeline,
        models_root / "tiny-flux-fill",
        request_,
        image=picture.resize((64, 64), Image.Resampling.LANCZOS),
        mask_image=request_.mask,
        strength=strength,
    )
    assert np.array_equal(pixels(fill, changed(request_, strength=strength)), theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"image": Image.new("RGB", (64, 64), "red")},
        {"mask": right_half().transpose(Image.Transpose.FLIP_LEFT_RIGHT)},
        {"prompt": "a wolf"},
        {"seed": 8},
        {"guidance_scale": 5.0},
        {"strength": 0.5},
    ],
    ids=lambda change: "+".join(change),
)
def test_every_parameter_changes_the_picture(
    fill: FluxModel, request_: GenerateRequest, change: dict[str, Any]
) -> None:
    assert distance(pixels(fill, request_), pixels(fill, changed(request_, **change))) > VISIBLE


def test_the_open_part_of_the_picture_is_not_seen(fill: FluxModel, request_: GenerateRequest) -> None:
    """At full strength only what the mask covers may matter, but for the blur of the VAE."""
    picture = (request_.image or Image.new("RGB", (64, 64))).resize((64, 64), Image.Resampling.LANCZOS)
    other = picture.copy()
    other.paste("red", (32, 0, 64, 64))
    assert torch.equal(latents(fill, changed(request_, image=picture)), latents(fill, changed(request_, image=other)))


def test_what_was_prepared_can_be_drawn_again(fill: FluxModel, request_: GenerateRequest) -> None:
    prepared = fill.prepare(request_)
    first, second = (fill.denoise(prepared, lambda done, total: None).packed for _ in range(2))
    assert torch.equal(first, second)


def test_loras_reach_every_layer_of_its_wider_input(
    fill: FluxModel, models_root: Path, tmp_path: Path, request_: GenerateRequest
) -> None:
    before = pixels(fill, request_)
    path = write_tiny_lora(tmp_path / "lora.safetensors", models_root / "tiny-flux-fill", seed=1)
    lora = LoraSelection("fill", path, 1.0)
    assert distance(before, pixels(fill, changed(request_, loras=(lora,)))) > VISIBLE
    assert np.array_equal(before, pixels(fill, request_))


def test_the_step_cache_stays_near_every_step_computed(models_root: Path, request_: GenerateRequest) -> None:
    long = changed(request_, steps=20)
    exact = latents(model_of("flux-fill", models_root, lora_rank=0), long)
    near = latents(model_of("flux-fill", models_root, lora_rank=0, step_cache="balanced"), long)
    assert not torch.equal(exact, near)
    assert torch.cosine_similarity(exact.flatten(), near.flatten(), dim=0) > 0.97


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": None}, "image"),
        ({"mask": None}, "mask"),
        ({"references": (Image.new("RGB", (8, 8)),)}, "references"),
        ({"negative_prompt": "blurry", "true_cfg_scale": 2.0}, "negative_prompt"),
    ],
    ids=lambda value: "",
)
def test_what_the_weights_cannot_do_is_refused(
    fill: FluxModel, request_: GenerateRequest, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        fill.prepare(changed(request_, **change))
    assert caught.value.field == field
