"""Blends generated parts into an image: pixels outside the mask stay unchanged, the edge inside is feathered."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Box", "box_weights", "composite", "cover", "feather", "mask_of", "region_around", "whole_cells"]

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels, as in Pillow."""

Weights = NDArray[np.float32]


def mask_of(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Convert an image of any mode to a mask of this size (width, height), in mode L: white is open, transparent is
    black."""
    if image.mode in ("RGBA", "LA"):
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    mask = image.convert("L")
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def whole_cells(mask: Image.Image, cell: int) -> Image.Image:
    """Grow the mask to whole cells of `cell` x `cell` pixels, all that it touches. Mode L, 0 or 255.

    Latents have one value per cell, and diffusers samples one pixel of it: thin strokes would be lost.
    """
    open_pixels = np.asarray(mask) > 0
    height, width = open_pixels.shape
    padded = np.pad(open_pixels, ((0, -height % cell), (0, -width % cell)))
    rows, columns = padded.shape[0] // cell, padded.shape[1] // cell
    cells = padded.reshape(rows, cell, columns, cell).any(axis=(1, 3))
    grown = cells.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    return Image.fromarray(grown.astype(np.uint8) * 255)


def region_around(mask: Image.Image, *, margin: float, least: int) -> Box | None:
    """The open part of a mask with surroundings, inside the image; None if nothing is open.

    Args:
        mask: Mode L.
        margin: Added before and after the open part on each axis, as a share of its length.
        least: The least side of the region in pixels, as far as the image is that large.
    """
    found = mask.getbbox()
    if found is None:
        return None
    left, right = _span(found[0], found[2], mask.width, margin, least)
    upper, lower = _span(found[1], found[3], mask.height, margin, least)
    return left, upper, right, lower


def cover(size: tuple[int, int], shape: tuple[int, int]) -> Box:
    """The largest centred part of an image of this size with the proportions of `shape`."""
    width, height = size
    if width * shape[1] > height * shape[0]:
        kept = max(1, round(height * shape[0] / shape[1]))
        left = (width - kept) // 2
        return left, 0, left + kept, height
    kept = max(1, round(width * shape[1] / shape[0]))
    upper = (height - kept) // 2
    return 0, upper, width, upper + kept


def feather(mask: Image.Image, radius: int) -> Weights:
    """The weight of the generated image in each pixel (height, width), from 0 to 1.

    It is 0 wherever the mask is black and rises over `radius` pixels inside its edge, or to the middle of parts that
    are narrower. It does not fall off at the image's own edge. Gray in the mask limits it.
    """
    open_pixels = np.asarray(mask) > 0
    depth = np.zeros(open_pixels.shape, np.uint8)
    layer = open_pixels
    for _ in range(max(radius, 1)):
        depth += layer
        layer = _shrunk(layer)
    deepest = depth
    for _ in range(max(radius, 1)):
        deepest = _spread(deepest)
    weights = depth / np.maximum(deepest, 1).astype(np.float32)
    limited: Weights = (weights * (np.asarray(mask) / np.float32(255))).astype(np.float32)
    return limited


def box_weights(box: Box, size: tuple[int, int], radius: int) -> Weights:
    """The weight of each pixel of a box (height, width), from 0 to 1: it rises over `radius` pixels inside each side
    that is not the image's own edge. `size` is the image's (width, height)."""
    left, upper, right, lower = box
    across = _rise(right - left, left > 0, right < size[0], radius)
    down = _rise(lower - upper, upper > 0, lower < size[1], radius)
    return np.minimum(down[:, None], across[None, :])


def composite(base: Image.Image, generated: Image.Image, weights: Weights) -> Image.Image:
    """Blend `generated` over `base` by the weights; where they are 0 the pixels of `base` stay bit for bit.

    Args:
        base: Mode L, RGB or RGBA. Where it is transparent it becomes opaque as far as `generated` shows.
        generated: RGB, of the same size.
        weights: (height, width), from 0 to 1.
    """
    below = np.asarray(base.convert("RGBA" if base.mode == "RGBA" else "RGB"))
    above = np.asarray(generated.convert("RGB"))
    if below.shape[2] == 4:
        above = np.dstack([above, np.full(above.shape[:2], 255, np.uint8)])
    share = weights[..., None]
    mixed = below + share * (above.astype(np.float32) - below)
    result = np.where(share > 0, np.clip(np.rint(mixed), 0, 255).astype(np.uint8), below)
    return Image.fromarray(result)


def _span(low: int, high: int, size: int, margin: float, least: int) -> tuple[int, int]:
    wanted = min(size, max(least, round((high - low) * (1 + 2 * margin))))
    begin = min(max(0, (low + high - wanted) // 2), size - wanted)
    return begin, begin + wanted


def _shrunk(layer: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Erode by one pixel: without the pixels that have a closed one among their eight neighbours."""
    padded = np.pad(layer, 1, mode="edge")
    rows = padded[:-2] & padded[1:-1] & padded[2:]
    return rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]


def _spread(depth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest value among each pixel and its eight neighbours."""
    padded = np.pad(depth, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _rise(length: int, begins: bool, ends: bool, radius: int) -> Weights:
    """From 0 to 1 over `radius` pixels at the begin and at the end, where it is wanted."""
    radius = min(radius, length // 2)
    weights = np.ones(length, np.float32)
    slope = ((np.arange(radius) + 1) / (radius + 1)).astype(np.float32)
    if begins and radius:
        weights[:radius] = slope
    if ends and radius:
        weights[length - radius :] = np.minimum(weights[length - radius :], slope[::-1])
    return weights
