"""Processes large images in overlapping tiles: splits them, blends the tiles, and restores the original colours.

Coordinates are pixels from the left upper corner. Weights and pixels are numpy arrays in rows, columns and channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Axis", "Tile", "TileGrid", "TiledImage", "with_colours_of"]

_COLOUR_CELL = 64
"""Pixels. Colour that changes more slowly than this is taken from the image, finer detail from the model."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of an image in overlapping tiles of equal length.

    Attributes:
        length: Of the image.
        tile: Length of every tile, a multiple of the model's grid.
        starts: Where the tiles begin, ascending from 0. The last one may reach past the image, to fill the grid.
        ramp: The length over which one tile fades into the next.
    """

    length: int
    tile: int
    starts: tuple[int, ...]
    ramp: int

    @classmethod
    def split(cls, length: int, *, tile: int, overlap: int, multiple: int) -> "Axis":
        """Split into the fewest tiles of at most `tile` pixels, and as short as possible, to generate no more than
        necessary. Neighbours share at least `overlap` pixels. All tiles start on the grid.

        Raises:
            ValueError: no pixels, `tile` or `overlap` off the grid, or an overlap longer than half a tile.
        """
        if length < 1 or tile % multiple or overlap % multiple or not 0 < overlap <= tile // 2:
            raise ValueError(f"no tiles of {tile} with {overlap} in common for {length} pixels on a grid of {multiple}")
        cells, most, shared = -(-length // multiple), tile // multiple, overlap // multiple
        if cells <= most:
            return cls(length, cells * multiple, (0,), ramp=overlap // 2)
        count = -(-(cells - shared) // (most - shared))
        side = -(-(cells + (count - 1) * shared) // count)
        starts = tuple(index * (cells - side) // (count - 1) * multiple for index in range(count))
        return cls(length, side * multiple, starts, ramp=overlap // 2)

    @property
    def padded(self) -> int:
        """The length up to the end of the last tile."""
        return self.starts[-1] + self.tile

    def weights(self, index: int) -> NDArray[np.float32]:
        """The weight of each pixel of a tile, in [0, 1]; at every position the weights of all tiles sum to one.

        A tile fades into the next one along a raised cosine in the middle of their overlap. Nearer to its border, where
        the model had the least context, its weight is 0.
        """
        positions = self.starts[index] + np.arange(self.tile) + 0.5
        # A tile's weight is its own onset less that of the next tile: the sum over all tiles telescopes.
        return (self._begun(index, positions) - self._begun(index + 1, positions)).astype(np.float32)

    def _begun(self, index: int, positions: NDArray[np.floating]) -> NDArray[np.floating]:
        """The onset of tile `index`: from 0 to 1 where it takes over from the one before."""
        if index == 0 or index == len(self.starts):
            return np.full(positions.shape, float(index == 0))
        middle = (self.starts[index] + self.starts[index - 1] + self.tile) / 2
        return np.sin(np.pi / 2 * ((positions - middle) / self.ramp + 0.5).clip(0, 1)) ** 2


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile's position in the order and in the image. All tiles of a grid have the same size."""

    row: int
    column: int
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class TileGrid:
    """An image in tiles, row by row."""

    across: Axis
    down: Axis

    @classmethod
    def split(cls, width: int, height: int, *, tile: int, overlap: int, multiple: int) -> "TileGrid":
        """Split both sides with `Axis.split`; raises what that raises."""
        return cls(
            across=Axis.split(width, tile=tile, overlap=overlap, multiple=multiple),
            down=Axis.split(height, tile=tile, overlap=overlap, multiple=multiple),
        )

    @property
    def tile_size(self) -> tuple[int, int]:
        """Width and height of every tile."""
        return self.across.tile, self.down.tile

    def __len__(self) -> int:
        return len(self.across.starts) * len(self.down.starts)

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, len(self.across.starts))
        left, top = self.across.starts[column], self.down.starts[row]
        return Tile(row, column, left, top, self.across.tile, self.down.tile)

    def __iter__(self) -> Iterator[Tile]:
        return (self[index] for index in range(len(self)))

    def weights(self, tile: Tile) -> NDArray[np.float32]:
        """(height, width): the weight of each pixel of the tile. See `Axis.weights`."""
        return np.outer(self.down.weights(tile.row), self.across.weights(tile.column))


class TiledImage:
    """An RGB image that is regenerated tile by tile, in place.

    In addition to the image it keeps one row of tiles in floating point. A row of the image is replaced as soon as
    no later tile can change it, and no tile that still has to be cut out includes such a row: tiles may be cut out
    any number ahead of those that are put back, also from another thread.

    Example:
        tiled = TiledImage(image, TileGrid.split(*image.size, tile=1024, overlap=128, multiple=16))
        for index in range(len(tiled)):
            tiled.put(process(tiled.cut(index)))
        result = tiled.image()
    """

    def __init__(self, image: Image.Image, grid: TileGrid) -> None:
        """`image` is RGB, of the grid's size, and is modified."""
        self._image = image
        self._grid = grid
        self._placed = 0
        self._band = np.zeros((grid.down.tile, grid.across.padded, 3), np.float32)

    def __len__(self) -> int:
        return len(self._grid)

    def cut(self, index: int) -> Image.Image:
        """A tile of the original image. Where it reaches past the image, the outermost pixels are repeated."""
        tile = self._grid[index]
        right, bottom = tile.left + tile.width, tile.top + tile.height
        inside = (tile.left, tile.top, min(right, self._image.width), min(bottom, self._image.height))
        cut = self._image.crop(inside)
        missing = tile.width - cut.width, tile.height - cut.height
        if missing == (0, 0):
            return cut
        return Image.fromarray(np.pad(np.asarray(cut), ((0, missing[1]), (0, missing[0]), (0, 0)), mode="edge"))

    def put(self, generated: Image.Image) -> None:
        """Put the generated content of the next tile back, in the order of the grid. The last one of a row finishes
        rows.

        Raises:
            ValueError: it has another size than the tile; there is no tile left.
        """
        if self._placed == len(self):
            raise ValueError("all tiles are there already")
        tile = self._grid[self._placed]
        if generated.size != (tile.width, tile.height):
            raise ValueError(f"a tile is {tile.width} x {tile.height}, not {generated.width} x {generated.height}")
        weighted = np.asarray(generated.convert("RGB"), np.float32)
        weighted *= self._grid.weights(tile)[..., None]
        self._band[:, tile.left : tile.left + tile.width] += weighted
        self._placed += 1
        if tile.column == len(self._grid.across.starts) - 1:
            self._finish_rows(tile)

    def image(self) -> Image.Image:
        """The regenerated image.

        Raises:
            ValueError: a tile is missing.
        """
        if self._placed < len(self):
            raise ValueError(f"{len(self) - self._placed} of {len(self)} tiles are missing")
        return self._image

    def _finish_rows(self, tile: Tile) -> None:
        """Move the rows that no later tile reaches from the band into the image."""
        tops = self._grid.down.starts
        next_top = tops[tile.row + 1] if tile.row + 1 < len(tops) else self._image.height
        done = self._band[: next_top - tile.top, : self._image.width]
        np.rint(done, out=done)
        self._image.paste(Image.fromarray(done.astype(np.uint8)), (0, tile.top))
        left = self._band.shape[0] - len(done)
        self._band[:left] = self._band[len(done) :]
        self._band[left:] = 0


def with_colours_of(original: Image.Image, generated: Image.Image, *, cell: int = _COLOUR_CELL) -> Image.Image:
    """Give `generated` the low frequencies of `original`; both RGB and of one size.

    Image to image shifts colours a little, differently in each tile, which shows as a chequerboard. So fine detail is
    taken from the one and colour from the other, the idea of StableSR's colour correction (Wang et al. 2023,
    arXiv:2305.07015, section 3.4). It splits by wavelets; here low frequencies are the interpolated means of cells of
    about `cell` pixels, which is a lot cheaper and as smooth.
    """
    shift = np.asarray(original, np.float32) - np.asarray(generated, np.float32)
    cells = [max(1, round(side / cell)) for side in original.size]
    for channel in range(shift.shape[-1]):
        shift[..., channel] = _low_frequencies(shift[..., channel], cells)
    shift += np.asarray(generated)
    np.rint(shift, out=shift)
    return Image.fromarray(shift.clip(0, 255).astype(np.uint8))


def _low_frequencies(values: NDArray[np.float32], cells: Sequence[int]) -> NDArray[np.float32]:
    """The means of (across, down) cells, interpolated to the original size."""
    plane = Image.fromarray(np.ascontiguousarray(values))
    means = plane.resize((cells[0], cells[1]), Image.Resampling.BOX)
    return np.asarray(means.resize(plane.size, Image.Resampling.BICUBIC))
