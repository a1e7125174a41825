"""A picture in another size keeps its shape, its edges and its mode."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compute.imaging.resize import Layers, at_size, covering_box, open_at, resized

sides = st.integers(1, 16_384)
sizes = st.tuples(sides, sides)


@given(sizes, sizes)
def test_the_part_that_is_taken_has_the_targets_shape_and_is_in_the_middle(
    size: tuple[int, int], target: tuple[int, int]
) -> None:
    left, top, right, bottom = covering_box(size, target)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert (right - left) * target[1] == pytest.approx((bottom - top) * target[0])
    assert left + right == pytest.approx(size[0])
    assert top + bottom == pytest.approx(size[1])
    assert right - left == pytest.approx(size[0]) or bottom - top == pytest.approx(size[1])


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_any_size_becomes_any_other(size: tuple[int, int], target: tuple[int, int]) -> None:
    assert resized(Image.new("RGB", size, "teal"), target).getcolors() == [(target[0] * target[1], (0, 128, 128))]


def test_what_does_not_fit_is_cut_off_and_nothing_is_squeezed() -> None:
    stripes = Image.new("RGB", (120, 40), "red")
    stripes.paste("white", (40, 0, 80, 40))
    whole = stripes.resize((240, 80), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(resized(stripes, (80, 80))), np.asarray(whole.crop((80, 0, 160, 80))))


def test_a_picture_of_the_right_size_is_itself() -> None:
    picture = Image.new("RGB", (7, 5))
    assert at_size(picture, (7, 5)) is picture
    assert at_size(picture, (14, 5)).size == (14, 5)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(1, 255), st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_one_open_pixel_opens_the_mask_at_any_size(left: int, top: int, level: int, size: tuple[int, int]) -> None:
    mask = Image.new("L", (256, 256))
    mask.putpixel((left, top), level)
    smaller = np.asarray(open_at(mask, size))
    assert set(np.unique(smaller)) <= {0, 255}
    assert smaller[int((top + 0.5) * size[1] / 256), int((left + 0.5) * size[0] / 256)] == 255
    assert (smaller > 0).sum() <= 4


def test_a_closed_mask_stays_closed_and_an_open_one_open() -> None:
    assert open_at(Image.new("L", (40, 30)), (7, 90)).getextrema() == (0, 0)
    assert open_at(Image.new("1", (40, 30), 1), (7, 90)).getextrema() == (255, 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_picture_comes_back_in_its_mode(mode: str) -> None:
    picture = Image.linear_gradient("L").resize((33, 21)).convert(mode)
    layers = Layers.of(picture)
    assert layers.colours.mode == "RGB"
    assert np.array_equal(np.asarray(layers.with_colours(layers.colours)), np.asarray(picture))


def test_no_colour_that_is_hidden_shows_at_an_edge() -> None:
    picture = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    picture.paste((200, 60, 60, 255), (20, 20, 40, 40))
    picture.paste((60, 60, 200, 128), (40, 20, 60, 40))
    large = Layers.of(picture).resized((320, 320))
    whole = np.asarray(large.with_colours(large.colours.copy()), int)
    assert np.abs(whole[110:190, 110:190, :3] - (200, 60, 60)).max() <= 2
    seen = whole[whole[..., 3] > 8][:, :3]
    assert seen[:, 1].max() < 80
    assert np.asarray(large.colours)[..., 1].max() < 80


def test_a_picture_of_which_nothing_is_seen_stays_so() -> None:
    layers = Layers.of(Image.new("RGBA", (9, 5), (10, 20, 30, 0))).resized((18, 10))
    assert layers.with_colours(layers.colours).getchannel("A").getextrema() == (0, 0)
