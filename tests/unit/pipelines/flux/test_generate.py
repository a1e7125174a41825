"""Requests in pixels: each part of a request shows in them, and nothing else does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compute.errors import Interrupted, InvalidInput, OutOfMemory
from compute.pipelines.flux.model import FluxModel
from compute.worker.protocol import GenerateRequest, ImageModel

Draw = Callable[..., np.ndarray]
VISIBLE = 2.0
"""Mean difference per pixel and channel, of 255, that anybody would see."""


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def request(**changes: Any) -> GenerateRequest:
    fields: dict[str, Any] = {
        "prompt": "a harbour at night",
        "width": 64,
        "height": 64,
        "steps": 4,
        "guidance_scale": 3.5,
        "seed": 3,
    }
    return GenerateRequest(**(fields | changes))


def test_the_same_request_gives_the_same_bytes(draw: Draw) -> None:
    first = draw()
    draw(seed=99, prompt="something else")
    assert np.array_equal(first, draw())


def test_the_picture_is_no_flat_gray(draw: Draw) -> None:
    assert draw(width=128, height=128).std() > 20


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"prompt": "a red fox in the snow."},
        {"prompt": "Κάτι άλλο"},
        {"guidance_scale": 5.0},
        {"steps": 3},
        {"negative_prompt": "blurry", "true_cfg_scale": 3.0},
    ],
    ids=lambda change: "+".join(change),
)
def test_every_parameter_changes_the_picture(draw: Draw, change: dict[str, Any]) -> None:
    assert distance(draw(), draw(**change)) > VISIBLE


def test_the_negative_prompt_acts_by_its_words_and_only_with_true_guidance(draw: Draw) -> None:
    blurry, ugly = (draw(negative_prompt=words, true_cfg_scale=3.0) for words in ("blurry", "ugly"))
    assert distance(blurry, ugly) > VISIBLE
    assert np.array_equal(draw(), draw(negative_prompt="blurry", true_cfg_scale=1.0))


@pytest.mark.parametrize(("width", "height"), [(64, 128), (80, 48), (256, 256)])
def test_the_size_is_exactly_the_requested_one(draw: Draw, width: int, height: int) -> None:
    assert draw(width=width, height=height).shape == (height, width, 3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"width": 72}, "width"),
        ({"height": 100}, "height"),
        ({"width": 0}, "width"),
        ({"steps": 0}, "steps"),
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.5}, "strength"),
    ],
)
def test_an_impossible_request_is_refused_by_field(draw: Draw, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        draw(**change)
    assert caught.value.field == field


def test_a_prompt_longer_than_both_encoders_draws(draw: Draw) -> None:
    assert distance(draw(prompt="word " * 300), draw()) > VISIBLE


def test_img2img_keeps_less_of_the_picture_the_higher_the_strength(draw: Draw, picture: Image.Image) -> None:
    start = np.asarray(picture.resize((128, 128))).astype(int)
    drawn = [draw(image=picture, width=128, height=128, steps=10, strength=s) for s in (0.1, 0.3, 0.6, 1.0)]
    distances = [distance(start, image) for image in drawn]
    assert distances == sorted(distances)
    assert distances[-1] > 1.5 * distances[0]


def test_img2img_starts_from_the_picture_and_repeats_exactly(draw: Draw, picture: Image.Image) -> None:
    first = draw(image=picture, strength=0.5)
    assert np.array_equal(first, draw(image=picture, strength=0.5))
    assert distance(first, draw(image=picture.rotate(90), strength=0.5)) > VISIBLE


def test_img2img_takes_any_mode_and_size(draw: Draw, picture: Image.Image) -> None:
    assert draw(image=picture.convert("RGBA").resize((33, 57)), width=96, height=64, strength=0.4).shape == (64, 96, 3)


@pytest.mark.parametrize(("steps", "strength", "expected"), [(10, 0.5, 5), (4, 0.3, 2), (4, 1.0, 4), (4, 1e-17, 1)])
def test_on_step_counts_the_steps_that_really_run(
    flux: FluxModel, picture: Image.Image, steps: int, strength: float, expected: int
) -> None:
    seen: list[tuple[int, int]] = []
    flux.generate(
        request(image=picture, steps=steps, strength=strength), lambda done, total: seen.append((done, total))
    )
    assert seen == [(done, expected) for done in range(1, expected + 1)]


def test_on_step_counts_every_step_of_text_to_image(flux: FluxModel) -> None:
    seen: list[tuple[int, int]] = []
    flux.generate(request(steps=3), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("with_image", [False, True])
def test_an_interrupt_stops_at_its_step_and_leaves_the_pipeline_usable(
    flux: FluxModel, draw: Draw, picture: Image.Image, with_image: bool
) -> None:
    before = draw()
    seen: list[int] = []

    def stop_at_two(done: int, _total: int) -> None:
        seen.append(done)
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        flux.generate(request(steps=50, image=picture if with_image else None), stop_at_two)
    assert seen == [1, 2]
    assert np.array_equal(before, draw())


def test_running_out_of_memory_is_reported_with_the_words_clients_look_for(flux: FluxModel, draw: Draw) -> None:
    before = draw()

    def exhaust(_done: int, _total: int) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")

    with pytest.raises(OutOfMemory, match="CUDA out of memory while generating 64x64") as caught:
        flux.generate(request(), exhaust)
    assert "smaller" in caught.value.detail
    assert np.array_equal(before, draw())


def test_the_prompt_cache_forgets_the_oldest_and_changes_no_byte(models_root: Any, draw: Draw) -> None:
    from compute.pipelines import ModelConfig, load

    small: ImageModel = load(ModelConfig(device="cpu", prompt_cache=1), models_root)
    first = np.asarray(small.generate(request(), lambda done, total: None))
    small.generate(request(prompt="other", negative_prompt="worse", true_cfg_scale=2.0), lambda done, total: None)
    assert np.array_equal(first, np.asarray(small.generate(request(), lambda done, total: None)))


def test_the_model_names_itself_as_configured(flux: FluxModel) -> None:
    assert flux.name == "tiny-flux"
