"""Regenerates an image of any size with a model of one native size: image to image over overlapping tiles."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import overload

import numpy as np
from PIL import Image

from compute.imaging.change import with_change
from compute.imaging.resize import at_size
from compute.imaging.tiles import TiledImage, TileGrid, with_colours_of
from compute.schemas.fields import MAX_SEED
from compute.worker.context import RunContext, Share
from compute.worker.native import sized_note
from compute.worker.protocol import GenerateRequest, Size

__all__ = ["TileSettings", "regenerate_in_tiles"]

_LEAST_TILE = 512
_OVERLAPS = 8
"""A tile as small as the model's native size overlaps each neighbour by one part in this many: an eighth."""


@dataclass(frozen=True, slots=True)
class TileSettings:
    """Settings for regenerating an image in tiles.

    Attributes:
        denoise: The noise put on each tile, in (0, 1].
        tile: The largest side of a tile in pixels.
        overlap: The least overlap of neighbours in pixels.
        multiple: The model's grid, of which `tile` and `overlap` are multiples.
    """

    prompt: str
    steps: int
    denoise: float
    seed: int
    guidance_scale: float
    tile: int
    overlap: int
    multiple: int


async def regenerate_in_tiles(
    context: RunContext, image: Image.Image, settings: TileSettings, *, share: Share = (0.0, 1.0)
) -> Image.Image:
    """Regenerate an RGB image, in place, while holding the device; its colours stay, see `with_colours_of`.

    A tile is put back while the next one is denoised. One row of tiles is in memory in addition to the image. A model
    whose tiles are smaller than `_LEAST_TILE` pixels a side would need hundreds of them, each without context: it
    generates the whole image once, at its native size, and its change is added to the image. The metadata records the
    generated size if it is not that of the image or of the usual tiles.
    """
    usual = _grid(image, settings)
    tile = min(context.own_size((settings.tile, settings.tile)))
    size = context.own_size(image.size)
    if tile < settings.tile and math.prod(size) < math.prod(image.size):
        if tile < _LEAST_TILE:
            return await _regenerate_at_once(context, image, size, settings, share)
        settings = replace(settings, tile=tile, overlap=tile // _OVERLAPS // settings.multiple * settings.multiple)
    grid = _grid(image, settings)
    context.note(tiles=len(grid), **sized_note(context.own_size(grid.tile_size), usual.tile_size))
    tiled = TiledImage(image, grid)
    placing = asyncio.ensure_future(asyncio.sleep(0))
    async with aclosing(context.generate_all(_TileRequests(tiled, settings), share=share)) as tiles:
        try:
            index = 0
            async for generated in tiles:
                await placing
                placing = asyncio.ensure_future(context.compute(partial(_place, tiled, index, generated)))
                index += 1
            await placing
        finally:
            await asyncio.wait([placing])
    return tiled.image()


async def _regenerate_at_once(
    context: RunContext, image: Image.Image, size: Size, settings: TileSettings, share: Share
) -> Image.Image:
    context.note(tiles=1)
    small = await context.compute(partial(at_size, image, size))
    generated = await context.generate(_request(settings, small, settings.seed), shown=image.size, share=share)
    return await context.compute(lambda: with_change(image, small, with_colours_of(small, generated)))


def _request(settings: TileSettings, image: Image.Image, seed: int) -> GenerateRequest:
    return GenerateRequest(
        prompt=settings.prompt,
        width=image.width,
        height=image.height,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        seed=seed,
        image=image,
        strength=settings.denoise,
    )


def _grid(image: Image.Image, settings: TileSettings) -> TileGrid:
    return TileGrid.split(*image.size, tile=settings.tile, overlap=settings.overlap, multiple=settings.multiple)


def _place(tiled: TiledImage, index: int, generated: Image.Image) -> None:
    tiled.put(with_colours_of(tiled.cut(index), generated))


class _TileRequests(Sequence[GenerateRequest]):
    """The requests of the tiles. A tile is cut out on access, so that the image is not in memory twice."""

    def __init__(self, tiled: TiledImage, settings: TileSettings) -> None:
        self._tiled = tiled
        self._settings = settings

    def __len__(self) -> int:
        return len(self._tiled)

    @overload
    def __getitem__(self, index: int) -> GenerateRequest: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[GenerateRequest]: ...

    def __getitem__(self, index: int | slice) -> GenerateRequest | Sequence[GenerateRequest]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return _request(self._settings, self._tiled.cut(index), _tile_seed(self._settings.seed, index))


def _tile_seed(seed: int, index: int) -> int:
    """A seed for each tile: the same noise in all of them would show as a repeating pattern."""
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint64)[0]) & MAX_SEED
