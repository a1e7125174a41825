"""Backgrounds are changed as the parameters say, and the subject is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.background import (
    Margin,
    background_colour,
    fit_behind,
    kept_area,
    on_white,
    put_behind,
    remove_background,
    shift_background,
)
from compute.imaging.lab import lab_from_srgb, srgb_from_lab
from compute.imaging.segmentation.segment import subject_mask
from tests.unit.imaging.cutouts import bottle, mug

NO_MARGIN = Margin(0, 0, 1)
BEIGE = np.array([[(238, 208, 178)]], np.uint8)
SIDE = 120


def square_matte() -> np.ndarray:
    """A subject of 40 x 40 pixels in the middle, its edge one pixel wide."""
    matte = np.zeros((SIDE, SIDE), np.uint8)
    matte[40:80, 40:80] = 128
    matte[41:79, 41:79] = 255
    return matte


def before(colour: tuple[int, int, int], subject: tuple[int, int, int] = (200, 30, 30)) -> np.ndarray:
    share = square_matte()[..., None] / 255
    return np.round(np.float32(subject) * share + np.float32(colour) * (1 - share)).astype(np.uint8)


# --- colours ---------------------------------------------------------------------------------------------------------


def test_known_colours_are_where_the_standard_has_them() -> None:
    pixels = np.array([[(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255), (119, 119, 119)]], np.uint8)
    expected = [(100, 0, 0), (0, 0, 0), (53.24, 80.09, 67.20), (32.30, 79.19, -107.86), (50.03, 0, 0)]
    assert np.abs(lab_from_srgb(pixels)[0] - expected).max() < 0.1


def test_every_colour_comes_back() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    pixels = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    assert np.array_equal(np.round(srgb_from_lab(lab_from_srgb(pixels))), pixels)


def test_colours_outside_of_srgb_are_clipped() -> None:
    assert srgb_from_lab(np.float32([[(100, 100, 100)]])).max() <= 255


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_without_a_margin_the_matte_is_kept() -> None:
    assert np.array_equal(kept_area(square_matte(), NO_MARGIN), square_matte())


@pytest.mark.parametrize("expansion", [1, 5, 17])
def test_expansion_reaches_that_many_pixels_out(expansion: int) -> None:
    row = kept_area(square_matte(), Margin(expansion, 0, 1))[60]
    assert (row[40 - expansion : 80 + expansion] == 255).all()
    assert not row[: 40 - expansion].any()


def test_blur_reaches_further_with_its_sigma_and_keeps_the_subject_whole() -> None:
    widths = []
    for sigma in (2, 6, 12, 20):
        kept = kept_area(square_matte(), Margin(0, sigma, 1))
        assert (kept[square_matte() == 255] == 255).all()
        widths.append(int((kept[60, :40] > 12).sum()))
    assert widths == sorted(set(widths))
    # A Gaussian leaves 5 % at 1.64 sigma from an edge that is long enough.
    assert abs(widths[1] - 1.64 * 6) <= 2


def test_softness_is_from_hard_to_soft() -> None:
    mixed = [
        int(((kept > 0) & (kept < 255)).sum())
        for kept in (kept_area(square_matte(), Margin(4, 6, softness)) for softness in (0, 0.5, 1))
    ]
    assert mixed[0] == 0 < mixed[2]
    hard, half, soft = (kept_area(square_matte(), Margin(4, 6, softness))[60].astype(int) for softness in (0, 0.5, 1))
    assert np.abs(half - (hard + soft) / 2).max() <= 1


@given(
    expansion=st.floats(0, 200),
    sigma=st.floats(0, 60),
    softness=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_the_subject_is_always_kept(expansion: float, sigma: float, softness: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    matte = random.choice(np.uint8([0, 0, 0, 90, 200, 255]), size=(random.integers(1, 40), random.integers(1, 40)))
    kept = kept_area(matte, Margin(expansion, sigma, softness))
    assert kept.shape == matte.shape
    assert (kept[matte == 255] == 255).all()
    assert (kept >= np.where(matte >= 128, matte * softness // 1, 0) - 1).all()


# --- COLOR_SHIFT -----------------------------------------------------------------------------------------------------


def lab(pixels: np.ndarray) -> np.ndarray:
    return lab_from_srgb(pixels).reshape(-1, 3).mean(axis=0)


def test_the_background_takes_the_colour_and_the_subject_keeps_its_own() -> None:
    truth = bottle()
    pixels = np.asarray(truth.image)
    matte = np.asarray(subject_mask(truth.image))
    target = lab(BEIGE)
    shifted, share = shift_background(
        pixels, kept_area(matte, NO_MARGIN), target, shadow_threshold=60, light_threshold=120
    )
    assert np.array_equal(shifted[matte == 255], pixels[matte == 255])
    moved = (matte == 0) & (lab_from_srgb(pixels)[..., 0] * 2.55 > 120)
    assert np.linalg.norm(lab(shifted[moved][None]) - target) < 2
    assert np.linalg.norm(lab(pixels[moved][None]) - target) > 10
    assert share == pytest.approx(moved.mean(), abs=0.03)


def test_a_shadow_stays_below_the_first_threshold_and_moves_in_part_up_to_the_second() -> None:
    """A grey ramp in the place of a background: how far each lightness moves."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(32, 0)
    nothing = np.zeros(ramp.shape[:2], np.uint8)
    shifted, _ = shift_background(ramp, nothing, np.float32([70, 20, 20]), shadow_threshold=100, light_threshold=200)
    lightness = lab_from_srgb(ramp)[0, :, 0] * 2.55
    moved = lab_from_srgb(shifted)[0, :, 1]
    assert np.array_equal(shifted[:, lightness <= 100], ramp[:, lightness <= 100])
    middle = int(np.argmin(np.abs(lightness - 150)))
    assert moved[middle] == pytest.approx(10, abs=0.5)
    # Below the lightness at which 8 bits cannot hold the colour.
    light = (lightness >= 200) & (lightness < 215)
    assert moved[light] == pytest.approx(20, abs=0.6)


def test_a_background_that_is_all_shadow_does_not_move() -> None:
    pixels = before((40, 40, 40))
    shifted, share = shift_background(pixels, square_matte(), lab(BEIGE), shadow_threshold=150, light_threshold=220)
    assert share == 0
    assert np.array_equal(shifted, pixels)


def test_equal_thresholds_are_a_step() -> None:
    pixels = before((200, 200, 200))
    for threshold, moves in ((190, True), (220, False)):
        shifted, _ = shift_background(
            pixels, square_matte(), lab(BEIGE), shadow_threshold=threshold, light_threshold=threshold
        )
        assert bool((shifted[5, 5] != pixels[5, 5]).any()) is moves


def test_the_palette_is_the_colour_behind_its_subject() -> None:
    pixels = before((238, 208, 178))
    assert np.linalg.norm(background_colour(pixels, square_matte()) - lab(BEIGE)) < 0.5
    everything = np.full((SIDE, SIDE), 255, np.uint8)
    assert np.linalg.norm(background_colour(np.broadcast_to(BEIGE, (SIDE, SIDE, 3)), everything) - lab(BEIGE)) < 0.5


# --- another background ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (0, 200, 40)])
def test_before_another_background_no_fringe_shows(colour: tuple[int, int, int]) -> None:
    truth = mug((384, 384))
    pixels, matte = np.asarray(truth.image), np.asarray(subject_mask(truth.image))
    behind = np.broadcast_to(np.uint8(colour), pixels.shape)
    result = put_behind(pixels, matte, kept_area(matte, NO_MARGIN), behind, softness=1)
    assert np.abs(result - truth.on(colour))[truth.edge].mean() < 10
    assert np.array_equal(result[matte == 255], pixels[matte == 255])
    assert np.array_equal(result[matte == 0], behind[matte == 0])


def test_the_margin_shows_the_old_background() -> None:
    pixels, behind = before((230, 230, 230)), np.zeros((SIDE, SIDE, 3), np.uint8)
    margin = Margin(10, 0, 1)
    result = put_behind(pixels, square_matte(), kept_area(square_matte(), margin), behind, softness=1)
    assert np.array_equal(result[60, 31:40], pixels[60, 31:40])
    assert not result[60, :30].any()
    assert np.abs(result[60, 30:90].astype(int) - pixels[60, 30:90]).max() <= 1


def test_hard_edges_are_not_mixed() -> None:
    pixels, behind = before((230, 230, 230), (200, 30, 30)), np.zeros((SIDE, SIDE, 3), np.uint8)
    kept = kept_area(square_matte(), Margin(0, 0, 0))
    hard = put_behind(pixels, square_matte(), kept, behind, softness=0)
    soft = put_behind(pixels, square_matte(), square_matte(), behind, softness=1)
    assert np.abs(hard[60, 40].astype(int) - (200, 30, 30)).max() <= 3
    assert np.abs(soft[60, 40].astype(int) - (100, 15, 15)).max() <= 3


def test_a_background_is_scaled_to_cover() -> None:
    stripes = np.zeros((50, 300, 3), np.uint8)
    stripes[:, 100:200] = 255
    fitted = np.asarray(fit_behind(Image.fromarray(stripes), (80, 40)))
    assert fitted.shape == (40, 80, 3)
    assert (fitted[:, 2:-2] == 255).all()


def test_transparency_is_white_paper() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert on_white(image).getpixel((0, 0)) == (255, 255, 255)


def test_a_removal_keeps_the_subject_and_refuses_an_empty_picture() -> None:
    truth = bottle()
    alone = remove_background(truth.image, model="grabcut")
    assert alone.mode == "RGBA"
    inside = np.asarray(alone)[..., 3] == 255
    assert np.array_equal(np.asarray(alone)[inside][:, :3], np.asarray(truth.image)[inside])
    with pytest.raises(InvalidInput, match="No subject"):
        remove_background(Image.new("RGB", (64, 64), "white"), model="grabcut")


def test_a_cut_out_comes_back_as_it_is() -> None:
    alone = remove_background(bottle((96, 128)).image, model="grabcut")
    assert remove_background(alone, model="grabcut").tobytes() == alone.tobytes()
