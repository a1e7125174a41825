"""The judge of the demo world: right on what is drawn, also when it is blurred and noisy; silent on nonsense."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tools.demo_model.classifier import classify
from tools.demo_model.palette import BACKGROUNDS, COLORS
from tools.demo_model.scenes import GARMENTS, NEW_GARMENT, Scene, random_scenes, render

SCENES = [
    *random_scenes(20, 200),
    *random_scenes(21, 60, held_out=True),
    *random_scenes(22, 40, garments=(NEW_GARMENT,)),
]
RANDOM = np.random.default_rng(0)


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.5))


def noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image) + RANDOM.normal(0, 8, (*image.size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def resized(image: Image.Image) -> Image.Image:
    return image.resize((64, 64), Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)


def all_three(image: Image.Image) -> Image.Image:
    return resized(noisy(blurred(image)))


def accuracy(pictures: list[Image.Image]) -> dict[str, float]:
    seen = [classify(picture) for picture in pictures]
    return {
        attribute: float(np.mean([
            getattr(one, attribute) == getattr(scene, attribute) for one, scene in zip(seen, SCENES, strict=True)
        ]))
        for attribute in ("garment", "color", "background")
    }  # fmt: skip


@pytest.mark.parametrize("size", [64, 128, 256])
def test_it_is_right_on_98_of_100_drawn_pictures(size: int) -> None:
    shares = accuracy([render(scene, size) for scene in SCENES])
    assert min(shares.values()) >= 0.98, shares


@pytest.mark.parametrize("worse", [blurred, noisy, resized, all_three])
def test_it_is_right_on_95_of_100_spoiled_pictures(worse: Callable[[Image.Image], Image.Image]) -> None:
    shares = accuracy([worse(render(scene, 128)) for scene in SCENES])
    assert min(shares.values()) >= 0.95, shares


def test_scores_name_every_garment_and_the_best_is_the_one_that_is_seen() -> None:
    seen = classify(render(Scene("boots", "yellow", "blue"), 128))
    assert set(seen.scores) == {*GARMENTS, NEW_GARMENT}
    assert max(seen.scores, key=lambda one: seen.scores[one]) == seen.garment == "boots"
    assert all(0 <= score <= 1 for score in seen.scores.values())


@pytest.mark.parametrize("spread", [20, 80])
def test_noise_shows_nothing(spread: int) -> None:
    pixels = np.clip(np.random.default_rng(1).normal(128, spread, (128, 128, 3)), 0, 255).astype(np.uint8)
    seen = classify(Image.fromarray(pixels))
    assert seen.garment is None
    assert seen.color is None


def test_even_noise_has_no_background() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert classify(Image.fromarray(pixels)).background is None


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_empty_picture_has_a_background_alone(background: str) -> None:
    seen = classify(Image.new("RGB", (128, 128), BACKGROUNDS[background]))
    assert (seen.garment, seen.color, seen.background) == (None, None, background)
    assert not seen.scores


def test_scribble_is_no_garment_though_it_has_a_colour() -> None:
    image = Image.new("RGB", (128, 128), BACKGROUNDS["white"])
    corners = [(20, 20), (110, 30), (25, 50), (105, 70), (20, 90), (108, 108)]
    ImageDraw.Draw(image).line(corners, fill=COLORS["blue"], width=7)
    seen = classify(image)
    assert (seen.garment, seen.color, seen.background) == (None, "blue", "white")


def test_a_background_of_two_colours_is_none() -> None:
    image = Image.new("RGB", (128, 128), BACKGROUNDS["white"])
    image.paste(BACKGROUNDS["black"], (0, 0, 64, 128))
    assert classify(image).background is None


@pytest.mark.parametrize("more", [(0, 32), (32, 0)])
def test_a_picture_that_is_not_square_is_judged_with_more_of_its_edges(more: tuple[int, int]) -> None:
    picture = np.asarray(render(Scene("dress", "red", "white"), 128))
    across, down = more
    wider = np.pad(picture, ((down, down), (across, across), (0, 0)), mode="edge")
    seen = classify(Image.fromarray(wider))
    assert (seen.garment, seen.color, seen.background) == ("dress", "red", "white")
