"""Pads an image by extending its edge outwards, increasingly smooth, with the image's own grain.

Each new row is the outermost row of the image, blurred along the edge by half its distance from it. At the edge it is
the edge itself, so there is no visible line; far out it is the edge's mean colour, so objects at the edge do not become
stripes. The grain keeps the new part from looking artificial next to a photograph, and a gradient from breaking into
bands.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["padded"]

Floats = NDArray[np.float32]

_BLUR_PER_PIXEL = 0.5
_MOST_GRAIN = 4.0
"""Standard deviation, of 255. More than that is the subject or a pattern, and no grain."""
_BAND_PIXELS = 1 << 20
"""Rows processed at a time, because floats take much more memory than the result."""
_DEPTH = 3
"""The edge is the mean of this many rows; the grain of a single row would become stripes."""


def padded(image: Image.Image, size: tuple[int, int], at: tuple[int, int]) -> Image.Image:
    """Place the image in a larger one of `size`, its top left corner `at` (x, y); its own pixels are unchanged.

    If the image has any transparency, all new pixels are transparent; otherwise its edges are extended. `image` is L,
    RGB or RGBA and lies inside `size`; the same image always gives the same result.
    """
    if image.mode == "RGBA" and np.asarray(image.getchannel("A")).min() < 255:
        result = Image.new("RGBA", size)
        result.paste(image, at)
    else:
        continued = _continued(np.atleast_3d(np.asarray(image)), size, at)
        result = Image.fromarray(continued[..., 0] if image.mode == "L" else continued)
        result.paste(image, at)
    result.info = dict(image.info)
    return result


def _continued(pixels: NDArray[np.uint8], size: tuple[int, int], at: tuple[int, int]) -> NDArray[np.uint8]:
    """Extend the sides first, then top and bottom over the whole new width, so that the corners follow from both."""
    height, width = pixels.shape[:2]
    random = np.random.default_rng(0)
    wide = np.empty((height, size[0], pixels.shape[2]), np.uint8)
    wide[:, at[0] : at[0] + width] = pixels
    turned, wide_turned = pixels.swapaxes(0, 1), wide.swapaxes(0, 1)
    wide_turned[: at[0]] = _beyond(turned, at[0], random)[::-1]
    wide_turned[at[0] + width :] = _beyond(turned[::-1], size[0] - at[0] - width, random)
    result = np.empty((size[1], size[0], pixels.shape[2]), np.uint8)
    result[at[1] : at[1] + height] = wide
    result[: at[1]] = _beyond(wide, at[1], random)[::-1]
    result[at[1] + height :] = _beyond(wide[::-1], size[1] - at[1] - height, random)
    return result


def _beyond(pixels: NDArray[np.uint8], count: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """`count` rows that extend `pixels` (height, width, channels) before its first row, the nearest first."""
    if count == 0:
        return pixels[:0]
    rows = np.empty((count, *pixels.shape[1:]), np.uint8)
    levels = _ever_smoother(pixels[:_DEPTH].astype(np.float32).mean(axis=0), count)
    grain = _grain(pixels)
    band = max(1, _BAND_PIXELS // pixels.shape[1])
    for first in range(0, count, band):
        distances = np.arange(first, min(first + band, count)) * _BLUR_PER_PIXEL
        smooth = _between(levels, distances)
        smooth += random.standard_normal(smooth.shape, np.float32) * grain
        rows[first : first + band] = np.clip(np.round(smooth), 0, 255)
    return rows


def _ever_smoother(edge: Floats, count: int) -> list[tuple[float, Floats]]:
    """The edge (width, channels) unblurred and at successively doubled sigmas: (sigma, edge)."""
    farthest = max(1.0, count * _BLUR_PER_PIXEL)
    sigmas = [2.0**power for power in range(-1, int(np.ceil(np.log2(farthest))) + 1)]
    return [(0.0, edge), *((sigma, _blurred(edge, sigma)) for sigma in sigmas)]


def _between(levels: list[tuple[float, Floats]], sigmas: NDArray[np.float64]) -> Floats:
    """(len(sigmas), width, channels): each sigma interpolated between the two adjacent levels."""
    steps = np.interp(sigmas, [sigma for sigma, _ in levels], np.arange(len(levels)))
    below = np.minimum(steps.astype(int), len(levels) - 2)
    share = (steps - below).astype(np.float32)[:, None, None]
    edges = np.stack([edge for _, edge in levels])
    return np.asarray(edges[below] * (1 - share) + edges[below + 1] * share, np.float32)


def _blurred(edge: Floats, sigma: float) -> Floats:
    """A Gaussian blur along the edge; the mean if it is wider than the edge is long."""
    if sigma > len(edge):
        return np.broadcast_to(edge.mean(axis=0), edge.shape)
    blurred = cv2.GaussianBlur(edge[None], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32).reshape(edge.shape)


def _grain(pixels: NDArray[np.uint8]) -> Floats:
    """The standard deviation of each channel's noise near the edge.

    From the median of differences of neighbours along the edge, so that objects and edges do not count.
    """
    strip = pixels[: 4 * _DEPTH].astype(np.float32)
    if strip.shape[1] < 2:
        return np.zeros(pixels.shape[2], np.float32)
    deviation = np.median(np.abs(np.diff(strip, axis=1)), axis=(0, 1)) * np.float32(1.4826 / np.sqrt(2))
    return np.asarray(np.where(deviation > _MOST_GRAIN, 0, deviation), np.float32)
