"""A patch takes on the colours around it, and goes in without an edge and without touching the rest."""

import numpy as np
import pytest
from PIL import Image

from compute.imaging.colour import feathered_ellipse, match_colour, match_histogram, paste, with_mode_of
from compute.imaging.lab import lab_from_srgb
from tests.pictures import portrait, scene


def statistics(image: Image.Image) -> np.ndarray:
    lab = lab_from_srgb(np.asarray(image)).reshape(-1, 3)
    return np.stack([lab.mean(axis=0), lab.std(axis=0)])


def test_mean_and_spread_become_those_of_the_target() -> None:
    target = portrait((80, 80))
    patch = Image.merge(
        "RGB", [band.point(lambda v, k=k: v * k + 12) for band, k in zip(target.split(), (0.9, 0.7, 0.6), strict=True)]
    )
    before = np.abs(statistics(patch) - statistics(target)).max()
    after = np.abs(statistics(match_colour(patch, target)) - statistics(target)).max()
    assert before > 10
    assert after < 0.5


def test_a_picture_matched_to_itself_stays() -> None:
    picture = scene((60, 40))
    difference = np.asarray(match_colour(picture, picture), int) - np.asarray(picture, int)
    assert np.abs(difference).max() <= 1


def test_a_flat_patch_is_not_blown_up() -> None:
    flat = Image.new("RGB", (40, 40), (100, 100, 100))
    matched = np.asarray(match_colour(flat, portrait((40, 40))), int)
    assert np.ptp(matched.reshape(-1, 3), axis=0).max() == 0


@pytest.mark.parametrize("size", [(40, 40), (31, 60)])
def test_the_ellipse_is_full_in_the_middle_empty_outside_and_smooth_between(size: tuple[int, int]) -> None:
    mask = np.asarray(feathered_ellipse(size, feather=0.5), int)
    width, height = size
    assert mask[height // 2, width // 2] == 255
    assert mask[0, 0] == mask[-1, -1] == mask[0, -1] == 0
    middle_row = mask[height // 2, width // 2 :]
    assert (np.diff(middle_row) <= 0).all()
    assert np.abs(np.diff(middle_row)).max() < 80
    assert np.array_equal(mask, mask[::-1, ::-1])


def test_only_what_the_mask_shows_is_changed() -> None:
    picture = scene((90, 60))
    before = np.asarray(picture).copy()
    mask = feathered_ellipse((40, 30))
    paste(picture, Image.new("RGB", (40, 30), (255, 0, 255)), (20, 10, 60, 40), mask)
    changed = (np.asarray(picture) != before).any(axis=-1)
    covered = np.zeros_like(changed)
    covered[10:40, 20:60] = np.asarray(mask) > 0
    assert changed.any()
    assert not (changed & ~covered).any()
    assert tuple(np.asarray(picture)[25, 40]) == (255, 0, 255)


def test_a_patch_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The box is \(10, 10\), the patch \(9, 10\)"):
        paste(scene((30, 30)), Image.new("RGB", (9, 10)), (0, 0, 10, 10), Image.new("L", (10, 10)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_picture_keeps_its_mode_and_its_transparency(mode: str) -> None:
    picture = portrait((30, 30)).convert(mode)
    if mode == "RGBA":
        picture.putalpha(feathered_ellipse((30, 30)))
    back = with_mode_of(picture, picture.convert("RGB"))
    assert back.mode == mode
    assert back.tobytes() == picture.tobytes()


def test_values_of_one_rank_correspond() -> None:
    target = portrait((80, 80))
    patch = target.point(lambda value: value * 0.6 + 40).resize((120, 100))
    matched = np.asarray(match_histogram(patch, target)).reshape(-1, 3)
    wanted = np.asarray(target).reshape(-1, 3)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.abs(np.quantile(matched, share, axis=0) - np.quantile(wanted, share, axis=0)).max() < 8


def test_an_image_with_the_histogram_already_stays_as_it_is() -> None:
    image = scene((90, 60))
    assert (np.asarray(match_histogram(image, image)) == np.asarray(image)).all()


def test_a_flat_patch_has_a_colour_of_the_target() -> None:
    flat = np.asarray(match_histogram(Image.new("RGB", (8, 8), "red"), scene((90, 60))))
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1
