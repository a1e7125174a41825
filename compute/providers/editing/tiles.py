"""Edits an image in overlapping tiles, several at a time."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from PIL import Image

from compute.imaging.tiles import Axis, TiledImage, TileGrid
from compute.providers.editing.bench import Bench
from compute.providers.editing.consistency import EditedPart, Finish, Limits, edit_until_alike
from compute.providers.editing.editor import EditRequest, ImageEditor
from compute.providers.vendors.queued import all_of

__all__ = ["TileSettings", "adaptive_resolution", "edit_tiles", "grid_for"]

_LEAST_CELL = 64
"""Pixels of a tile without its overlap."""


@dataclass(frozen=True, slots=True)
class TileSettings:
    """How tiles are edited.

    Attributes:
        tiles: About how many.
        feather: Pixels over which neighbours fade into each other; 0 for a hard edge.
        retries: How often a tile is tried again.
        workers: Most tiles at a time; None for all.
        resolution: Chooses `1K`, `2K` or `4K` by the size of a tile.
        finish: Brings an edit to its tile's size and colours.
        seed: Of the first try of the first tile; no two tries of a task have the same.
    """

    instruction: str
    tiles: int
    feather: int
    limits: Limits
    retries: int
    workers: int | None
    resolution: Callable[[tuple[int, int]], str]
    finish: Finish
    seed: int
    strength: float | None = None
    keeps_images: bool = False


def adaptive_resolution(size: tuple[int, int]) -> str:
    """The least resolution at which (width, height) loses no detail."""
    return "1K" if max(size) <= 1024 else "2K" if max(size) <= 2048 else "4K"


def grid_for(size: tuple[int, int], *, tiles: int, feather: int) -> TileGrid:
    """About so many tiles, whose shape is as near to a square as (width, height) lets it. They share twice the feather:
    near its own edge a tile shows what the model saw least of."""
    width, height = size
    most_across, most_down = max(1, width // _LEAST_CELL), max(1, height // _LEAST_CELL)
    layouts = [
        (min(across, most_across), min(max(1, round(tiles / across)), most_down)) for across in range(1, tiles + 1)
    ]

    def cost(layout: tuple[int, int]) -> float:
        across, down = layout
        return abs(math.log(width / across / (height / down))) + 2 * abs(math.log(across * down / tiles))

    across, down = min(layouts, key=cost)
    return TileGrid(_axis(width, across, feather), _axis(height, down, feather))


async def edit_tiles(
    bench: Bench, editor: ImageEditor, image: Image.Image, settings: TileSettings, *, share: tuple[float, float]
) -> tuple[Image.Image, list[EditedPart]]:
    """Edit an RGB image, which is modified, tile by tile: the n-th is the part `tile/{n}`. A tile without a try that is
    alike enough keeps its pixels. Finished tiles are laid into the image in their order, so that no more of them are in
    memory than are waited for.

    Raises:
        ProviderFailed, CallUncertain: as `ImageEditor.edit`; all other tiles have ended then.
    """
    tiled = TiledImage(image, grid_for(image.size, tiles=settings.tiles, feather=settings.feather))
    places = asyncio.Semaphore(settings.workers or len(tiled))

    async def edited(index: int) -> EditedPart:
        async with places:
            return await _edit(bench, editor, tiled, index, settings)

    running = [asyncio.create_task(edited(index)) for index in range(len(tiled))]
    try:
        return await _gathered(bench, tiled, running, share)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _gathered(
    bench: Bench, tiled: TiledImage, running: list["asyncio.Task[EditedPart]"], share: tuple[float, float]
) -> tuple[Image.Image, list[EditedPart]]:
    parts: list[EditedPart] = []
    for index, task in enumerate(running):
        with suppress(Exception):
            await task
        if task.exception() is not None:
            # A call that is left half way may have been paid for nothing: the others still end.
            await all_of(running)
        part = task.result()
        await bench.compute(partial(_put, tiled, index, part.image))
        part.image = None
        parts.append(part)
        bench.progress(share[0] + (share[1] - share[0]) * (index + 1) / len(running))
    return tiled.image(), parts


async def _edit(bench: Bench, editor: ImageEditor, tiled: TiledImage, index: int, settings: TileSettings) -> EditedPart:
    original = await bench.compute(partial(tiled.cut, index))
    request = EditRequest(
        f"tile/{index}",
        settings.instruction,
        original,
        resolution=settings.resolution(original.size),
        seed=settings.seed + index * (settings.retries + 1),
        strength=settings.strength,
    )
    return await edit_until_alike(
        bench,
        editor,
        request,
        settings.limits,
        settings.finish,
        retries=settings.retries,
        keeps_images=settings.keeps_images,
    )


def _put(tiled: TiledImage, index: int, edited: Image.Image | None) -> None:
    tiled.put(tiled.cut(index) if edited is None else edited)


def _axis(length: int, count: int, feather: int) -> Axis:
    feather = min(feather, length // count // 4)
    tile = -(-(length + (count - 1) * 2 * feather) // count)
    starts = tuple(index * (length - tile) // max(1, count - 1) for index in range(count))
    return Axis(length, tile, starts, ramp=max(1, feather))
