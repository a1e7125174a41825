"""Blending: what is drawn into a picture stays inside its mask, without a seam where it begins."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from compute.imaging.blend import box_weights, composite, cover, feather, mask_of, region_around, whole_cells


def disc(size: tuple[int, int] = (96, 80), radius: int = 25) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).circle((size[0] // 2, size[1] // 2), radius, fill=255)
    return mask


def noise(mode: str, size: tuple[int, int] = (96, 80), seed: int = 0) -> Image.Image:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_outside_the_mask_every_bit_stays(mode: str) -> None:
    base, mask = noise(mode), disc()
    result = composite(base, noise("RGB", seed=1), feather(mask, 8))
    outside = np.asarray(mask) == 0
    kept = base if mode == "RGBA" else base.convert("RGB")
    assert result.mode == kept.mode
    assert np.array_equal(np.asarray(result)[outside], np.asarray(kept)[outside])


def test_deep_inside_it_is_what_was_drawn() -> None:
    drawn, mask = noise("RGB", seed=1), disc()
    weights = feather(mask, 6)
    result = np.asarray(composite(noise("RGB"), drawn, weights))
    assert (weights == 1).sum() > 800
    assert np.array_equal(result[weights == 1], np.asarray(drawn)[weights == 1])


def test_the_edge_rises_evenly_over_the_radius_and_only_inside() -> None:
    mask = Image.new("L", (60, 20))
    mask.paste(255, (20, 0, 60, 20))
    line = feather(mask, 8)[10]
    assert (line[:20] == 0).all()
    assert np.allclose(line[20:28], np.arange(1, 9) / 8)
    assert (line[28:] == 1).all(), "the picture's own edge is no edge of the mask"


def test_no_step_is_larger_than_the_radius_allows() -> None:
    black, white = Image.new("RGB", (96, 80)), Image.new("RGB", (96, 80), "white")
    hard, soft = (
        np.asarray(composite(black, white, feather(disc(), radius)))[..., 0].astype(int) for radius in (1, 10)
    )
    steps = [np.abs(np.diff(picture, axis=axis)).max() for picture in (hard, soft) for axis in (0, 1)]
    assert steps[:2] == [255, 255]
    assert max(steps[2:]) <= 30


def test_thin_strokes_reach_full_weight() -> None:
    mask = Image.new("L", (80, 40))
    ImageDraw.Draw(mask).line((5, 20, 75, 20), fill=255, width=3)
    assert feather(mask, 12)[20, 10:70].min() == 1


def test_gray_limits_what_shows() -> None:
    assert feather(Image.new("L", (30, 30), 102), 4).max() == pytest.approx(0.4)


def test_drawing_into_a_transparent_part_makes_it_opaque() -> None:
    base = Image.new("RGBA", (40, 40))
    result = np.asarray(composite(base, Image.new("RGB", (40, 40), "red"), feather(disc((40, 40), 12), 3)))
    assert result[20, 20].tolist() == [255, 0, 0, 255]
    assert result[0, 0].tolist() == [0, 0, 0, 0]


def test_a_mask_may_have_any_mode_and_size() -> None:
    clear = Image.new("RGBA", (48, 40), (255, 255, 255, 0))
    clear.paste((255, 255, 255, 255), (24, 0, 48, 40))
    mask = mask_of(clear, (96, 80))
    assert (mask.mode, mask.size) == ("L", (96, 80))
    assert np.asarray(mask)[40, [5, 90]].tolist() == [0, 255]


def test_whole_cells_lose_no_stroke_and_stay_near() -> None:
    mask = Image.new("L", (70, 50))
    ImageDraw.Draw(mask).line((3, 3, 66, 45), fill=255)
    grown = np.asarray(whole_cells(mask, 8))
    assert (grown[np.asarray(mask) > 0] == 255).all()
    assert set(np.unique(grown)) == {0, 255}
    for y in range(0, 50, 8):
        for x in range(0, 70, 8):
            cell = grown[y : y + 8, x : x + 8]
            assert cell.min() == cell.max()
            assert (cell.max() == 255) == (np.asarray(mask)[y : y + 8, x : x + 8].max() > 0)


def test_a_region_surrounds_what_is_open_and_stays_inside() -> None:
    mask = Image.new("L", (1000, 600))
    mask.paste(255, (10, 200, 110, 300))
    assert region_around(mask, margin=0.5, least=0) == (0, 150, 200, 350)
    assert region_around(mask, margin=0.5, least=512) == (0, 0, 512, 512)
    assert region_around(mask, margin=20, least=0) == (0, 0, 1000, 600)
    assert region_around(Image.new("L", (8, 8)), margin=1, least=8) is None


@pytest.mark.parametrize(
    ("size", "shape", "box"),
    [
        ((100, 50), (1, 1), (25, 0, 75, 50)),
        ((50, 100), (2, 1), (0, 37, 50, 62)),
        ((64, 48), (640, 480), (0, 0, 64, 48)),
    ],
)
def test_the_middle_of_other_proportions(
    size: tuple[int, int], shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert cover(size, shape) == box


def test_a_box_fades_inside_its_sides_but_not_at_the_images_own_edge() -> None:
    weights = box_weights((0, 10, 40, 50), (100, 60), 8)
    assert weights.shape == (40, 40)
    assert (weights[8:32, :32] == 1).all()
    assert (np.diff(weights[20, 31:]) < 0).all()
    assert (np.diff(weights[:9, 5]) > 0).all()
    assert (weights > 0).all()
    assert (box_weights((0, 0, 100, 60), (100, 60), 8) == 1).all()
    assert (box_weights((5, 5, 9, 9), (100, 60), 0) == 1).all()
    assert box_weights((5, 5, 8, 9), (100, 60), 50).max() <= 1
