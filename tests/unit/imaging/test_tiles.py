"""Tiles cover a picture as promised, and what is drawn in them becomes one picture without seams."""

import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compute.imaging.tiles import Axis, TiledImage, TileGrid, with_colours_of
from tests.pictures import scene

MULTIPLE = 16
Draw = Callable[[int, Image.Image], Image.Image]


@st.composite
def splits(draw: st.DrawFn, longest: int = 9000) -> tuple[int, int, int]:
    """A length, and a tile and an overlap that go together, in pixels."""
    tile = draw(st.integers(2, 80))
    overlap = draw(st.integers(1, tile // 2))
    return draw(st.integers(1, longest)), tile * MULTIPLE, overlap * MULTIPLE


def axis_of(split: tuple[int, int, int]) -> Axis:
    length, tile, overlap = split
    return Axis.split(length, tile=tile, overlap=overlap, multiple=MULTIPLE)


@given(splits())
def test_tiles_are_alike_on_the_grid_and_cover_the_side(split: tuple[int, int, int]) -> None:
    length, tile, overlap = split
    axis = axis_of(split)
    assert axis.starts[0] == 0
    assert axis.tile <= tile
    assert all(value % MULTIPLE == 0 for value in (axis.tile, *axis.starts))
    assert length <= axis.padded < length + MULTIPLE
    assert all(start + axis.tile - following >= overlap for start, following in pairwise(axis.starts))
    assert all(start < following for start, following in pairwise(axis.starts))


@given(splits())
def test_no_fewer_and_no_shorter_tiles_would_do(split: tuple[int, int, int]) -> None:
    length, tile, overlap = split
    axis = axis_of(split)
    count = len(axis.starts)
    if count > 1:
        assert (count - 1) * tile - (count - 2) * overlap < length
        assert count * (axis.tile - MULTIPLE) - (count - 1) * overlap < axis.padded


@given(splits())
def test_weights_sum_to_one_everywhere(split: tuple[int, int, int]) -> None:
    axis = axis_of(split)
    total = np.zeros(axis.padded)
    for index, start in enumerate(axis.starts):
        weights = axis.weights(index)
        assert weights.min() >= 0
        total[start : start + axis.tile] += weights
    assert np.allclose(total, 1, atol=1e-6)


@given(splits())
def test_what_a_model_saw_least_around_counts_for_nothing(split: tuple[int, int, int]) -> None:
    axis = axis_of(split)
    margin = split[2] // 4
    for index in range(1, len(axis.starts)):
        assert axis.weights(index)[:margin].max() == 0
        assert axis.weights(index - 1)[-margin:].max() == 0


def test_a_tile_fades_in_over_half_of_the_overlap() -> None:
    axis = Axis.split(1792, tile=1024, overlap=256, multiple=MULTIPLE)
    assert axis.starts == (0, 768)
    rising = axis.weights(1)[:256]
    assert np.count_nonzero((rising > 0) & (rising < 1)) == 128
    assert np.all(np.diff(rising) >= 0)


@given(splits(3000), splits(3000))
def test_tiles_come_row_by_row(across: tuple[int, int, int], down: tuple[int, int, int]) -> None:
    grid = TileGrid(axis_of(across), axis_of(down))
    places = [(tile.top, tile.left) for tile in grid]
    assert places == sorted(set(places))
    assert len(places) == len(grid)
    assert {(tile.width, tile.height) for tile in grid} == {(grid.across.tile, grid.down.tile)}


def test_an_output_of_8k_takes_45_tiles_of_one_size() -> None:
    grid = TileGrid.split(7680, 4320, tile=1024, overlap=128, multiple=MULTIPLE)
    assert (len(grid), grid.across.tile, grid.down.tile) == (45, 976, 976)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"),
    [(0, 64, 16), (100, 72, 16), (100, 64, 8), (100, 64, 0), (100, 64, 48), (-5, 64, 16)],
)
def test_a_split_that_cannot_be_is_refused(length: int, tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="no tiles of"):
        axis_of((length, tile, overlap))


def redraw(picture: Image.Image, draw: Draw, *, tile: int = 96, overlap: int = 32) -> np.ndarray:
    """What becomes of a picture whose tiles are drawn by `draw`."""
    grid = TileGrid.split(*picture.size, tile=tile, overlap=overlap, multiple=MULTIPLE)
    tiled = TiledImage(picture.copy(), grid)
    for index in range(len(tiled)):
        tiled.put(draw(index, tiled.cut(index)))
    return np.asarray(tiled.image())


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([(32, 16), (96, 32), (64, 16), (512, 64)]))
def test_tiles_put_back_as_they_were_cut_give_the_same_bytes(width: int, height: int, tiles: tuple[int, int]) -> None:
    picture = noise(width, height)
    again = redraw(picture, lambda _, cut: cut, tile=tiles[0], overlap=tiles[1])
    assert np.array_equal(again, np.asarray(picture))


def test_a_tile_past_the_edge_repeats_the_outermost_pixels() -> None:
    picture = noise(37, 1)
    tiled = TiledImage(picture, TileGrid.split(37, 1, tile=64, overlap=16, multiple=MULTIPLE))
    cut = np.asarray(tiled.cut(0))
    assert cut.shape == (16, 48, 3)
    assert np.array_equal(cut[:, :37], np.repeat(np.asarray(picture), 16, axis=0))
    assert np.array_equal(cut[:, 37:], np.repeat(cut[:, 36:37], 11, axis=1))


def test_every_tile_is_cut_from_the_picture_as_it_was() -> None:
    picture = noise(200, 200)
    seen: dict[int, Image.Image] = {}

    def black(index: int, cut: Image.Image) -> Image.Image:
        seen[index] = cut
        return Image.new("RGB", cut.size)

    assert redraw(picture, black).max() == 0
    grid = TileGrid.split(200, 200, tile=96, overlap=32, multiple=MULTIPLE)
    untouched = TiledImage(picture, grid)
    assert all(np.array_equal(np.asarray(cut), np.asarray(untouched.cut(index))) for index, cut in seen.items())


def test_tiles_must_fit_and_all_be_there() -> None:
    tiled = TiledImage(noise(100, 100), TileGrid.split(100, 100, tile=96, overlap=32, multiple=MULTIPLE))
    with pytest.raises(ValueError, match="4 of 4 tiles are missing"):
        tiled.image()
    with pytest.raises(ValueError, match="a tile is 80 x 80, not 64 x 80"):
        tiled.put(Image.new("RGB", (64, 80)))
    for index in range(4):
        tiled.put(tiled.cut(index))
    with pytest.raises(ValueError, match="all tiles are there"):
        tiled.put(Image.new("RGB", (80, 80)))


def test_beside_the_picture_only_one_row_of_tiles_is_held() -> None:
    width, height = 1024, 2048
    picture = noise(width, height)
    tracemalloc.start()
    try:
        redraw_in_place(picture)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.25 * width * height * 3 * np.dtype(np.float32).itemsize


def redraw_in_place(picture: Image.Image) -> None:
    tiled = TiledImage(picture, TileGrid.split(*picture.size, tile=256, overlap=32, multiple=MULTIPLE))
    for index in range(len(tiled)):
        tiled.put(tiled.cut(index))


def moody(index: int, cut: Image.Image) -> Image.Image:
    """A model whose every tile comes out in other colours, with detail of its own."""
    rng = np.random.default_rng(index)
    pixels = np.asarray(cut, np.float32) + rng.normal(0, 4, (cut.height, cut.width, 3)) + rng.uniform(-24, 24, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def seam_energy(pixels: np.ndarray, grid: TileGrid) -> float:
    """Gradient energy across the borders of tiles, as a multiple of that everywhere else."""
    ratios = []
    for axis, along in ((grid.across, pixels.swapaxes(0, 1)), (grid.down, pixels)):
        energy = (np.diff(along.astype(np.float64), axis=0) ** 2).mean(axis=(1, 2))
        borders = {start - 1 for start in axis.starts[1:]} | {start + axis.tile - 1 for start in axis.starts[:-1]}
        at_border = np.isin(np.arange(len(energy)), list(borders))
        ratios.append(energy[at_border].mean() / energy[~at_border].mean())
    return float(max(ratios))


def butted(picture: Image.Image, draw: Draw, grid: TileGrid) -> np.ndarray:
    """The same tiles, put down one over the other without a thought."""
    tiled, result = TiledImage(picture.copy(), grid), picture.copy()
    for index, tile in enumerate(grid):
        result.paste(draw(index, tiled.cut(index)), (tile.left, tile.top))
    return np.asarray(result)


def test_no_seam_shows_where_every_tile_has_other_colours() -> None:
    picture = scene((700, 600))
    grid = TileGrid.split(*picture.size, tile=256, overlap=64, multiple=MULTIPLE)
    assert seam_energy(butted(picture, moody, grid), grid) > 3
    feathered = redraw(picture, moody, tile=256, overlap=64)
    assert seam_energy(feathered, grid) < 1.03
    matched = redraw(picture, lambda i, cut: with_colours_of(cut, moody(i, cut)), tile=256, overlap=64)
    assert seam_energy(matched, grid) < 1.03


def test_colours_stay_those_of_the_picture() -> None:
    # Nothing near white or black, where a shift of colours cuts off what no correction brings back.
    picture = scene((700, 600)).point(lambda value: 48 + value * 5 // 8)
    original = np.asarray(picture, np.float32)

    def drift(pixels: np.ndarray) -> float:
        """The largest difference between the two in means of 50 x 50 pixels."""
        difference = (pixels - original).reshape(12, 50, 14, 50, 3).mean(axis=(1, 3))
        return float(np.abs(difference).max())

    assert drift(redraw(picture, moody, tile=256, overlap=64)) > 15
    matched = redraw(picture, lambda i, cut: with_colours_of(cut, moody(i, cut)), tile=256, overlap=64)
    assert drift(matched) < 2


def test_fine_detail_is_the_models() -> None:
    flat = Image.new("RGB", (256, 256), (90, 120, 150))
    fine = np.where(np.add.outer(np.arange(256), np.arange(256)) % 8 < 4, 30, -30)
    drawn = Image.fromarray((np.full((256, 256, 3), 140) + fine[..., None]).astype(np.uint8))
    matched = np.asarray(with_colours_of(flat, drawn), np.float32)
    assert np.abs(matched.mean(axis=(0, 1)) - (90, 120, 150)).max() < 0.5
    assert matched[..., 0].std() == pytest.approx(30, abs=0.5)


@pytest.mark.parametrize("size", [(16, 16), (16, 976), (80, 48)])
def test_small_and_thin_tiles_keep_their_colours_too(size: tuple[int, int]) -> None:
    original = Image.new("RGB", size, (200, 40, 90))
    matched = with_colours_of(original, Image.new("RGB", size, (10, 250, 128)))
    assert np.array_equal(np.asarray(matched), np.asarray(original))
