"""Estimates the subject's own colours along its edge, without the backdrop that shines through.

Blur-Fusion: Forte, "Approximate Fast Foreground Colour Estimation" (2021). Means of the colours on either side,
weighted with the matte, are corrected by the residual of their mixture; once over a wide neighbourhood (on a small
copy) and once over a narrow one. It comes close to Germer et al., "Fast Multi-Level Foreground Estimation" (2020), in
two box filters.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.imaging.segmentation.matting import edge_tiles, share_of, spread_colours

__all__ = ["cut_out", "foreground_colours"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_SMALL_SIDE = 512
_WIDE = 12.0
_NARROW = 6
"""Pixels by which colours are extended outside of the edge, so that scaling the cut-out mixes in no other colour."""


def cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Cut out the subject, in mode RGBA; `mask` (mode L, of the same size) becomes its alpha.

    Pixels that are wholly subject keep their values; pixels far from the subject become transparent black.
    """
    pixels, matte = np.asarray(image.convert("RGB")), np.asarray(mask)
    return Image.fromarray(np.dstack([foreground_colours(pixels, matte), matte]))


def foreground_colours(pixels: Bytes, matte: Bytes) -> Bytes:
    """The colours of the subject, for an RGB image (height, width, 3) and its matte (height, width), 255 inside.

    They are the image's own where the matte is full, estimated where it is partial and just outside of it, and 0
    farther away.
    """
    shape = matte.shape
    colours = np.where((matte == 255)[..., None], pixels, np.uint8(0))
    reach = np.ones((2 * _NARROW + 1, 2 * _NARROW + 1), np.uint8)
    edge = cv2.dilate(matte, reach) != cv2.erode(matte, reach)
    scale = min(1.0, _SMALL_SIDE / max(shape))
    size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = share_of(np.asarray(cv2.resize(matte, size, interpolation=cv2.INTER_AREA), np.uint8))
    # The fourth power: purer pixels tell more about their side.
    inside, outside = spread_colours(small, share**4, _WIDE), spread_colours(small, (1 - share) ** 4, _WIDE)
    for tile in edge_tiles(edge):
        around = tile.grown(_NARROW, shape)
        wide = around.enlarged_from(inside, shape), around.enlarged_from(outside, shape)
        fused = _fused(pixels[around.part].astype(np.float32), share_of(matte[around.part]), *wide)
        y, x = tile.y - around.y, tile.x - around.x
        estimate = fused[y : y + tile.height, x : x + tile.width]
        mixed = edge[tile.part] & (matte[tile.part] < 255)
        colours[tile.part] = np.where(mixed[..., None], np.round(estimate), colours[tile.part])
    return np.asarray(colours, np.uint8)


def _fused(pixels: Floats, share: Floats, inside: Floats, outside: Floats) -> Floats:
    share = share[..., None]
    foreground, backdrop = _corrected(pixels, share, inside, outside)
    side = (2 * _NARROW + 1, 2 * _NARROW + 1)
    means = []
    for colours, weights, wide in ((foreground, share, inside), (backdrop, 1 - share, outside)):
        near = cv2.blur(weights, side)[..., None]
        means.append((cv2.blur(colours * weights, side) + 0.02 * wide) / (near + 0.02))
    fused, _ = _corrected(pixels, share, means[0], means[1])
    near = cv2.blur(share, side)[..., None]
    return np.where(near > 0, fused, 0)


def _corrected(pixels: Floats, share: Floats, inside: Floats, outside: Floats) -> tuple[Floats, Floats]:
    """Correct both sides, each by its part of the mixture's residual."""
    rest = pixels - share * inside - (1 - share) * outside
    return np.clip(inside + share * rest, 0, 255), np.clip(outside + (1 - share) * rest, 0, 255)
