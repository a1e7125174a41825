"""Refines a coarse mask to a matte: the subject's share of each pixel along the edge.

A pixel of the edge is a mixture, I = a F + (1 - a) B. Near an edge the colours F of the subject and B of the backdrop
are known from either side of it, so `a` follows by projecting I on the line from B to F. Where that line does not
explain the pixel (a pattern, a reflection), the coarse mask is carried to the edges of the image by the guided
filter: He, Sun, Tang, "Guided Image Filtering" (2010), in colour; its coefficients are computed on a small copy and
applied at full size, as in He, Sun, "Fast Guided Filter" (2015).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["EdgeTile", "edge_tiles", "guided_coefficients", "refine_matte", "share_of", "spread_colours"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_BAND = 4
"""The largest distance of the true edge from the coarse one, in pixels of the coarse mask."""
_SOFT_REACH = 12
_SOFT_SLOPE = 0.012
"""Change of the share per pixel below which there is no edge."""
_SHARP_SLOPE = 0.12
"""Above it the edge is in focus, and an adjacent slope is a shadow or a fold."""
_SOFT_CONTRAST = 0.2
_CERTAIN = 0.95
"""Shares above this, or below its complement to 1, are certain."""
_RADIUS = 4
_EPSILON = 1e-4
_SIDE_WIDTH = 2.0
_ENOUGH_CONTRAST = 0.06
"""The least difference of F and B, of the whole range: with less, unmixing would amplify noise."""
_EXPLAINED = 0.06
"""The largest distance of a pixel from the line between F and B."""
_SNAP = 0.06
"""Shares this close to 0 or 1 are noise."""
_TILE = 512


@dataclass(frozen=True, slots=True)
class EdgeTile:
    """A part of an image, in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def part(self) -> tuple[slice, slice]:
        """For indexing (height, width, …)."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def grown(self, margin: int, shape: tuple[int, ...]) -> "EdgeTile":
        """The part with a margin, within the image."""
        x, y = max(self.x - margin, 0), max(self.y - margin, 0)
        right, bottom = min(self.x + self.width + margin, shape[1]), min(self.y + self.height + margin, shape[0])
        return EdgeTile(x, y, right - x, bottom - y)

    def enlarged_from(self, small: Floats, shape: tuple[int, ...]) -> Floats:
        """This part of the image of `shape`, interpolated from its reduction `small`."""
        scale_x, scale_y = small.shape[1] / shape[1], small.shape[0] / shape[0]
        to_small = np.array(
            [
                [scale_x, 0, (self.x + 0.5) * scale_x - 0.5],
                [0, scale_y, (self.y + 0.5) * scale_y - 0.5],
            ]
        )
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (self.width, self.height)
        return np.asarray(cv2.warpAffine(small, to_small, size, flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32)


def edge_tiles(band: Bools) -> Iterator[EdgeTile]:
    """Yield the tiles that contain a part of `band`, so that the work along an edge takes memory for one of them."""
    height, width = band.shape
    for y in range(0, height, _TILE):
        for x in range(0, width, _TILE):
            tile = EdgeTile(x, y, min(_TILE, width - x), min(_TILE, height - y))
            if band[tile.part].any():
                yield tile


def refine_matte(pixels: Bytes, coarse: Bytes) -> Bytes:
    """The matte of an RGB image (height, width, 3), of its size; 0 and 255 away from the edges.

    `coarse` is a mask of the whole image at any smaller size, 255 inside; values between count as edge.
    """
    shape = pixels.shape[:2]
    small = cv2.resize(pixels, coarse.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    small /= 255
    subject = share_of(coarse)
    band = _band(subject)
    soft = _soft_edge(small, subject)
    band |= soft
    sides = np.where(subject >= 0.5, np.uint8(255), np.uint8(0))
    matte = np.asarray(cv2.resize(sides, shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
    if not band.any():
        return matte
    slopes, offset = guided_coefficients(small, subject, _RADIUS, _EPSILON)
    inside = spread_colours(small, _core((subject > _CERTAIN) & ~soft), _SIDE_WIDTH)
    outside = spread_colours(small, _core((subject < 1 - _CERTAIN) & ~soft), _SIDE_WIDTH)
    fields = np.concatenate([slopes, offset[..., None], inside, outside], axis=-1)
    at_edge = cv2.resize(band.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    for tile in edge_tiles(at_edge):
        share = _share(share_of(pixels[tile.part]), _enlarged(tile, fields, shape))
        matte[tile.part] = np.where(at_edge[tile.part], np.round(share * 255), matte[tile.part])
    return matte


def guided_coefficients(guide: Floats, source: Floats, radius: int, epsilon: float) -> tuple[Floats, Floats]:
    """The smoothed slopes (height, width, 3) and offsets (height, width) of the guided filter with a colour guide.

    `source` filtered is the sum over the channels of slope x guide, plus the offset. `guide` (height, width, 3) and
    `source` (height, width) range from 0 to 1; `radius` in pixels; `epsilon` is the variance below which the guide
    counts as flat.
    """
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(values: NDArray[Any]) -> Floats:
        return np.asarray(cv2.blur(values.astype(np.float32), size, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_source = mean(guide), mean(source)
    covariance = mean(guide * source[..., None]) - mean_guide * mean_source[..., None]
    variance = np.empty((*source.shape, 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            both = mean(guide[..., i] * guide[..., j]) - mean_guide[..., i] * mean_guide[..., j]
            variance[..., i, j] = variance[..., j, i] = both
    variance += np.float32(epsilon) * np.eye(3, dtype=np.float32)
    slopes = np.linalg.solve(variance, covariance[..., None])[..., 0]
    offset = mean_source - (slopes * mean_guide).sum(axis=-1)
    return mean(slopes), mean(offset)


def share_of(values: Bytes) -> Floats:
    """0 to 255 as float32 from 0 to 1."""
    return np.asarray(values, np.float32) / np.float32(255)


def spread_colours(pixels: Floats, weights: Floats, sigma: float) -> Floats:
    """The colours (height, width, 3) where `weights` (height, width) are, carried on to where there are none.

    A mean over a neighbourhood of `sigma` pixels; where that holds nothing, over one of twice the size, and so on.
    """
    total = float(weights.sum())
    spread = np.full(3, 0.5, np.float32) if total == 0 else (pixels * weights[..., None]).sum(axis=(0, 1)) / total
    field = np.broadcast_to(spread.astype(np.float32), pixels.shape)
    scales = [sigma * 2**power for power in range(5) if sigma * 2**power < max(pixels.shape[:2])]
    for scale in reversed(scales):
        near = _blurred(weights, scale)[..., None]
        colours = _blurred(pixels * weights[..., None], scale)
        field = (colours + 0.02 * field) / (near + 0.02)
    return np.asarray(field, np.float32)


def _blurred(values: Floats, sigma: float) -> Floats:
    """Two box filters, whose time does not depend on their size; close enough to a Gaussian."""
    side = 2 * max(1, round(sigma * 1.2)) + 1
    once = cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.blur(once, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


def _band(subject: Floats) -> Bools:
    """Pixels that may be on the edge: near the mask's transition through one half, and of intermediate shares."""
    inside = (subject >= 0.5).astype(np.uint8)
    near = np.ones((2 * _BAND + 1, 2 * _BAND + 1), np.uint8)
    crossing = cv2.dilate(inside, near) != cv2.erode(inside, near)
    return np.asarray(crossing | ((subject >= 1 - _CERTAIN) & (subject <= _CERTAIN)), np.bool_)


def _soft_edge(pixels: Floats, subject: Floats) -> Bools:
    """Pixels of an out-of-focus edge beyond the band: those near it that lie on a slope from F to B."""
    near = np.ones((2 * _SOFT_REACH + 1, 2 * _SOFT_REACH + 1), np.uint8)
    inside, outside = (
        spread_colours(pixels, np.asarray(cv2.erode(side.astype(np.uint8), near, borderValue=1), np.float32), 4.0)
        for side in (subject > _CERTAIN, subject < 1 - _CERTAIN)
    )
    share, error, contrast = _unmixed(pixels, inside, outside)
    smooth = cv2.GaussianBlur(np.clip(share, -0.2, 1.2), (0, 0), 1.0)
    slope = np.hypot(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)) / 32
    sharp = cv2.dilate((slope > _SHARP_SLOPE).astype(np.uint8), near) > 0
    mixed = (
        ~sharp
        & (slope > _SOFT_SLOPE)
        & (error < _EXPLAINED)
        & (contrast > _SOFT_CONTRAST)
        & (share > 0.02)
        & (share < 0.98)
    )
    side = (subject >= 0.5).astype(np.uint8)
    crossing = cv2.dilate(side, np.ones((3, 3), np.uint8)) != side
    reach = cv2.dilate(crossing.astype(np.uint8), near) > 0
    count, labels = cv2.connectedComponents((mixed & reach | crossing).astype(np.uint8), connectivity=8)
    touching = np.zeros(count, np.bool_)
    touching[labels[crossing]] = True
    return np.asarray(mixed & reach & touching[labels], np.bool_)


def _unmixed(pixels: Floats, inside: Floats, outside: Floats) -> tuple[Floats, Floats, Floats]:
    """The share of F in each pixel, not clipped, how far the pixel is from that mixture, and how far F is from B."""
    line = inside - outside
    length = (line * line).sum(axis=-1)
    share = ((pixels - outside) * line).sum(axis=-1) / np.maximum(length, 1e-6)
    error = np.linalg.norm(pixels - outside - np.clip(share, 0, 1)[..., None] * line, axis=-1)
    return share, error, np.sqrt(length)


def _core(side: Bools) -> Floats:
    """A side of the edge without the pixels that may be mixed."""
    inner = cv2.erode(side.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1)
    return np.asarray(inner, np.float32)


def _enlarged(tile: EdgeTile, fields: Floats, shape: tuple[int, ...]) -> Floats:
    # OpenCV warps four channels at a time.
    parts = [tile.enlarged_from(np.ascontiguousarray(fields[..., i : i + 4]), shape) for i in (0, 4, 8)]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=-1)


def _share(pixels: Floats, fields: Floats) -> Floats:
    """The subject's share of each pixel, from 0 to 1."""
    slopes, offset, inside, outside = fields[..., :3], fields[..., 3], fields[..., 4:7], fields[..., 7:10]
    guided = (slopes * pixels).sum(axis=-1) + offset
    unmixed, error, contrast = _unmixed(pixels, inside, outside)
    trust = contrast**2 / (contrast**2 + _ENOUGH_CONTRAST**2) * np.exp(-((error / _EXPLAINED) ** 2))
    share = trust * np.clip(unmixed, 0, 1) + (1 - trust) * np.clip(guided, 0, 1)
    return np.asarray(np.clip((share - _SNAP) / (1 - 2 * _SNAP), 0, 1), np.float32)
