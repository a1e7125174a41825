"""A picture and a mask on the base weights: diffusers' inpainting, beside text to image and image to image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxInpaintPipeline
from PIL import Image

from compute.errors import Interrupted, InvalidInput
from compute.pipelines.flux.model import FluxModel
from compute.worker.protocol import GenerateRequest
from tests.unit.pipelines.conftest import BASE, MakeLora, silent
from tests.unit.pipelines.flux.rig import VISIBLE, changed, distance, latents, model_of, pixels, plain, right_half

GUIDED = {"negative_prompt": "blurry", "true_cfg_scale": 3.0}


@pytest.fixture
def request_(picture: Image.Image) -> GenerateRequest:
    """Inpaint the right half of the picture."""
    return changed(image=picture, mask=right_half(), strength=0.8, steps=4)


@pytest.mark.parametrize("changes", [{}, {"strength": 1.0}, {"strength": 0.3, "steps": 5}, GUIDED], ids=str)
def test_the_picture_is_that_of_the_plain_pipeline(
    flux: FluxModel, tiny_folder: Path, request_: GenerateRequest, picture: Image.Image, changes: dict[str, Any]
) -> None:
    request = changed(request_, **changes)
    scaled = picture.resize((64, 64), Image.Resampling.LANCZOS)
    theirs = plain(
        FluxInpaintPipeline, tiny_folder, request, image=scaled, mask_image=request.mask, strength=request.strength
    )
    assert np.array_equal(pixels(flux, request), theirs)


def test_without_a_mask_it_is_that_of_image_to_image(
    flux: FluxModel, tiny_folder: Path, request_: GenerateRequest, picture: Image.Image
) -> None:
    request = changed(request_, mask=None, strength=0.6)
    scaled = picture.resize((64, 64), Image.Resampling.LANCZOS)
    theirs = plain(FluxImg2ImgPipeline, tiny_folder, request, image=scaled, strength=0.6)
    assert np.array_equal(pixels(flux, request), theirs)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_unmasked_latents_are_those_of_the_picture(flux: FluxModel, request_: GenerateRequest, strength: float) -> None:
    prepared = flux.prepare(changed(request_, strength=strength))
    drawn = flux.denoise(prepared, silent).packed
    picture = flux.pipeline._pack_latents(prepared.start.arguments["image"], 1, 16, 8, 8)
    columns = torch.arange(16) % 4  # patches of 16 pixels, row by row
    assert torch.equal(drawn[:, columns < 2], picture[:, columns < 2])
    assert not torch.isclose(drawn[:, columns >= 2], picture[:, columns >= 2]).any(dim=2).all()


@pytest.mark.parametrize(
    "change",
    [
        {"mask": right_half().transpose(Image.Transpose.FLIP_LEFT_RIGHT)},
        {"strength": 0.4},
        {"seed": 8},
        {"prompt": "a wolf"},
        {"guidance_scale": 7.0},
        GUIDED,
    ],
    ids=lambda change: "+".join(change),
)
def test_every_parameter_changes_the_picture(
    flux: FluxModel, request_: GenerateRequest, change: dict[str, Any]
) -> None:
    assert distance(pixels(flux, request_), pixels(flux, changed(request_, **change))) > VISIBLE


def test_loras_act_and_leave_nothing_behind(flux: FluxModel, request_: GenerateRequest, make_lora: MakeLora) -> None:
    before = pixels(flux, request_)
    with_lora = pixels(flux, changed(request_, loras=(make_lora(1),)))
    assert distance(before, with_lora) > VISIBLE
    assert np.array_equal(before, pixels(flux, request_))


def test_the_step_cache_stays_near_every_step_computed(models_root: Path, request_: GenerateRequest) -> None:
    long = changed(request_, steps=28, strength=1.0)
    exact = latents(model_of("flux", models_root, lora_rank=0), long)
    cached = latents(model_of("flux", models_root, lora_rank=0, step_cache="balanced"), long)
    assert not torch.equal(exact, cached)
    assert torch.cosine_similarity(exact.flatten(), cached.flatten(), dim=0) > 0.97


def test_a_mask_of_another_size_and_mode_is_scaled(flux: FluxModel, request_: GenerateRequest) -> None:
    large = right_half(256, 256).convert("RGB")
    assert np.array_equal(pixels(flux, request_), pixels(flux, changed(request_, mask=large)))


def test_a_black_mask_gives_back_the_picture(flux: FluxModel, request_: GenerateRequest, picture: Image.Image) -> None:
    drawn = pixels(flux, changed(request_, mask=Image.new("L", (64, 64))))
    there_and_back = pixels(flux, changed(image=picture, strength=1e-3, steps=1000, mask=Image.new("L", (64, 64))))
    assert np.array_equal(drawn, there_and_back)


def test_an_interrupt_stops_at_its_step(flux: FluxModel, request_: GenerateRequest) -> None:
    before = pixels(flux, request_)
    seen: list[tuple[int, int]] = []

    def stop_at_two(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        flux.generate(changed(request_, steps=10), stop_at_two)
    assert seen == [(1, 8), (2, 8)]
    assert np.array_equal(before, pixels(flux, request_))


@pytest.mark.parametrize(
    ("change", "field"),
    [({"image": None}, "mask"), ({"references": (Image.new("RGB", (8, 8)),)}, "references")],
)
def test_what_the_weights_cannot_do_is_refused(
    flux: FluxModel, request_: GenerateRequest, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        flux.prepare(changed(request_, **change))
    assert caught.value.field == field


def test_a_prepared_request_holds_no_part_of_the_model(flux: FluxModel, request_: GenerateRequest) -> None:
    """A manager lets models go while requests that were prepared for them wait."""
    start = flux.prepare(request_).start
    assert start.use == "inpaint"
    assert all(isinstance(value, torch.Tensor | float) for value in start.arguments.values())
    assert flux.prepare(BASE).start.arguments == {}
