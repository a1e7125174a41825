"""FLUX.1 Kontext: the picture to change and further pictures are looked at, and the numbers are diffusers'."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxKontextInpaintPipeline, FluxKontextPipeline
from PIL import Image

from compute.errors import InvalidInput
from compute.pipelines.flux.model import FluxModel
from compute.worker.protocol import GenerateRequest
from tests.unit.pipelines.conftest import BASE, MakeLora, silent
from tests.unit.pipelines.flux.rig import VISIBLE, changed, distance, latents, model_of, pixels, plain, right_half

GUIDED = {"negative_prompt": "blurry", "true_cfg_scale": 3.0}
RED = Image.new("RGB", (40, 80), "red")
BLUE = Image.new("RGB", (64, 64), "blue")


@pytest.fixture
def kontext(models_root: Path) -> FluxModel:
    return model_of("flux-kontext", models_root)


@pytest.fixture
def edit(picture: Image.Image) -> GenerateRequest:
    return changed(prompt="make it night", image=picture, steps=3, role="edit")


def scaled(picture: Image.Image) -> Image.Image:
    return picture.resize((64, 64), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("changes", [{}, GUIDED], ids=str)
def test_the_picture_is_that_of_the_plain_pipeline(
    kontext: FluxModel, models_root: Path, edit: GenerateRequest, picture: Image.Image, changes: dict[str, Any]
) -> None:
    request = changed(edit, **changes)
    theirs = plain(
        FluxKontextPipeline,
        models_root / "tiny-flux-kontext",
        request,
        image=scaled(picture),
        max_area=64 * 64,
        _auto_resize=False,
    )
    assert np.array_equal(pixels(kontext, request), theirs)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_strength_and_mask_are_those_of_the_plain_inpainting_pipeline(
    kontext: FluxModel, models_root: Path, edit: GenerateRequest, picture: Image.Image, strength: float
) -> None:
    request = changed(edit, steps=4, strength=strength, mask=right_half())
    theirs = plain(
        FluxKontextInpaintPipeline,
        models_root / "tiny-flux-kontext",
        request,
        image=scaled(picture),
        mask_image=request.mask,
        strength=strength,
        max_area=64 * 64,
        _auto_resize=False,
    )
    assert np.array_equal(pixels(kontext, request), theirs)


def test_without_a_picture_it_draws_from_the_prompt(kontext: FluxModel, models_root: Path) -> None:
    theirs = plain(FluxKontextPipeline, models_root / "tiny-flux-kontext", BASE, max_area=64 * 64)
    assert np.array_equal(pixels(kontext, BASE), theirs)


def test_a_reference_stands_to_the_right_of_the_picture(
    kontext: FluxModel, models_root: Path, edit: GenerateRequest, picture: Image.Image
) -> None:
    """Each is encoded by itself; the positions are those of one wide picture, so diffusers takes them as one."""
    request = changed(edit, references=(RED, BLUE))
    vae = kontext._inputs.vae
    with torch.no_grad():
        parts = [vae.encode(vae.pixels(image, *size), None)
                 for image, size in ((picture, (64, 64)), (RED, (32, 64)), (BLUE, (64, 64)))]  # fmt: skip
    theirs = plain(
        FluxKontextPipeline, models_root / "tiny-flux-kontext", request, image=torch.cat(parts, dim=3), max_area=64 * 64
    )
    assert np.array_equal(pixels(kontext, request), theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "make it day"},
        {"seed": 8},
        {"guidance_scale": 7.0},
        {"strength": 0.5},
        {"mask": right_half()},
        GUIDED,
    ],
    ids=lambda change: "+".join(change),
)
def test_every_parameter_changes_the_picture(kontext: FluxModel, edit: GenerateRequest, change: dict[str, Any]) -> None:
    assert distance(pixels(kontext, edit), pixels(kontext, changed(edit, **change))) > VISIBLE


def test_every_picture_is_looked_at(kontext: FluxModel, edit: GenerateRequest) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"image": RED},
        {"references": (RED,)},
        {"references": (RED, BLUE)},
        {"references": (BLUE, RED)},
    ]
    drawn = [pixels(kontext, changed(edit, **change)) for change in changes]
    for one, other in combinations(drawn, 2):
        assert distance(one, other) > VISIBLE


def test_a_very_wide_reference_costs_no_more_than_two_pictures(kontext: FluxModel, edit: GenerateRequest) -> None:
    wide = Image.new("RGB", (2000, 20), "green")
    prepared = kontext.prepare(changed(edit, references=(wide, Image.new("RGB", (2, 900)))))
    assert prepared.start.arguments["image"].shape == (1, 16, 8, 8 + 16 + 2)


def test_less_strength_keeps_more_of_the_picture(kontext: FluxModel, edit: GenerateRequest) -> None:
    start = np.asarray(scaled(edit.image or RED)).astype(int)
    drawn = [pixels(kontext, changed(edit, steps=10, strength=strength)) for strength in (0.1, 0.4, 1.0)]
    distances = [distance(start, image) for image in drawn]
    assert distances == sorted(distances)


def test_on_step_counts_the_steps_that_really_run(kontext: FluxModel, edit: GenerateRequest) -> None:
    seen: list[tuple[int, int]] = []
    kontext.generate(changed(edit, steps=4, strength=0.5), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_the_unmasked_latents_are_those_of_the_picture(kontext: FluxModel, edit: GenerateRequest) -> None:
    prepared = kontext.prepare(changed(edit, mask=right_half(), references=(RED,)))
    drawn = kontext.denoise(prepared, silent).packed
    picture = kontext.pipeline._pack_latents(prepared.start.arguments["image"][..., :8].contiguous(), 1, 16, 8, 8)
    kept = torch.arange(16) % 4 < 2
    assert torch.equal(drawn[:, kept], picture[:, kept])


def test_loras_and_the_step_cache_work_as_on_the_base(
    kontext: FluxModel, models_root: Path, edit: GenerateRequest, make_lora: MakeLora
) -> None:
    before = pixels(kontext, edit)
    assert distance(before, pixels(kontext, changed(edit, loras=(make_lora(1),)))) > VISIBLE
    assert np.array_equal(before, pixels(kontext, edit))
    long = changed(edit, steps=20, references=(BLUE,))
    cached = model_of("flux-kontext", models_root, step_cache="balanced", lora_rank=0)
    exact, near = latents(kontext, long), latents(cached, long)
    assert not torch.equal(exact, near)
    assert torch.cosine_similarity(exact.flatten(), near.flatten(), dim=0) > 0.97


@pytest.mark.parametrize(
    ("change", "field"), [({"references": (RED,)}, "image"), ({"mask": right_half()}, "mask")], ids=lambda value: ""
)
def test_pictures_without_the_one_to_change_are_refused(kontext: FluxModel, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        kontext.prepare(changed(**change))
    assert caught.value.field == field
