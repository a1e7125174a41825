"""Changes the background behind a subject without changing the subject's own pixels.

Images are RGB arrays (height, width, 3) and mattes (height, width), both uint8; 255 is the subject.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.flatten import on_white
from compute.imaging.lab import lab_from_srgb, srgb_from_lab
from compute.imaging.resize import resized
from compute.imaging.segmentation.foreground import cut_out, foreground_colours
from compute.imaging.segmentation.segment import own_alpha, subject_mask

__all__ = [
    "Margin",
    "background_colour",
    "fit_behind",
    "found_subject",
    "kept_area",
    "put_behind",
    "remove_background",
    "shift_background",
]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_ROWS = 256
"""Rows worked on at a time: floating point takes four times the memory of the image."""
_SMALL_SIDE = 512
_LEAST_SHARE = 0.02
"""The least share of an image that must be background for its colour to be measured there."""


@dataclass(frozen=True, slots=True)
class Margin:
    """Parameters of the kept margin around the subject.

    Attributes:
        expansion: Pixels around the subject that stay unchanged.
        blur_sigma: Sigma of the Gaussian that softens the margin's outer edge, in pixels.
        softness: 1 takes matte and blur as they are, 0 thresholds both at one half.
    """

    expansion: float
    blur_sigma: float
    softness: float


def remove_background(image: Image.Image, *, model: str, models_root: Path | None = None) -> Image.Image:
    """Cut out the subject, in mode RGBA. An image with transparency is cut out already, and returned as it is.

    Example:
        cut = remove_background(Image.open("dress.jpg"), model="grabcut")

    Raises:
        InvalidInput: no subject stands out, or `subject_mask` raises it.
    """
    mask = found_subject(image, model=model, models_root=models_root)
    return image.convert("RGBA") if own_alpha(image) is not None else cut_out(image, mask)


def found_subject(image: Image.Image, *, model: str, models_root: Path | None = None) -> Image.Image:
    """`subject_mask` of an image that must contain a subject.

    Raises:
        InvalidInput: no subject stands out, or `subject_mask` raises it.
    """
    mask = subject_mask(image, model=model, models_root=models_root)
    if mask.getbbox() is None:
        raise InvalidInput("No subject stands out from the background of this image.", field="image")
    return mask


def kept_area(matte: Bytes, margin: Margin) -> Bytes:
    """The kept share of each pixel: 255 is all of it; nowhere less than the subject's share."""
    expanded = matte
    if margin.expansion >= 0.5 and matte.any():
        distance = cv2.distanceTransform((matte < 128).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        expanded = np.maximum(matte, np.where(distance <= margin.expansion, np.uint8(255), np.uint8(0)))
    blurred = _gaussian(expanded, margin.blur_sigma) if margin.blur_sigma > 0 else expanded
    softened = _softened(expanded, blurred, margin.softness)
    return np.maximum(softened, _softened(matte, matte, margin.softness))


def background_colour(pixels: Bytes, matte: Bytes) -> Floats:
    """The median L*a*b* (3,) of pixels without any subject; of the whole image if there are hardly any."""
    small, mask = _reduced(pixels), _reduced(matte)
    outside = mask < 3
    if outside.mean() < _LEAST_SHARE:
        outside = np.ones_like(outside)
    return np.asarray(np.median(lab_from_srgb(small)[outside], axis=0), np.float32)


def shift_background(
    pixels: Bytes, kept: Bytes, target: Floats, *, shadow_threshold: float, light_threshold: float
) -> tuple[Bytes, float]:
    """Move the light part of the background so that its mean becomes `target`, a colour in L*a*b* (3,).

    Thresholds are lightness from 0 to 255 (L* x 2.55): nothing moves at or below the first, everything at or above the
    second, in proportion between them. Cast shadows therefore stay. The second result is the share of the image that
    moved, from 0 to 1; if it is 0, the background is all shadow.
    """

    def weights(lab: Floats, kept_part: Bytes) -> Floats:
        lightness = lab[..., 0] * 2.55
        steep = max(light_threshold - shadow_threshold, 1e-3)
        ramp = np.clip((lightness - shadow_threshold) / steep, 0, 1)
        return np.asarray(ramp * (1 - kept_part.astype(np.float32) / 255), np.float32)

    small = lab_from_srgb(_reduced(pixels))
    moved = weights(small, _reduced(kept))
    if not moved.any():
        return pixels.copy(), 0.0
    offset = target - (small * moved[..., None]).sum(axis=(0, 1)) / moved.sum()
    shifted = pixels.copy()
    for rows in _strips(pixels.shape[0]):
        lab = lab_from_srgb(pixels[rows])
        weight = weights(lab, kept[rows])[..., None]
        moved_rows = np.round(srgb_from_lab(lab + weight * offset))
        shifted[rows] = np.where(weight > 0, moved_rows, pixels[rows])
    return shifted, float(moved.mean())


def put_behind(pixels: Bytes, matte: Bytes, kept: Bytes, background: Bytes, *, softness: float) -> Bytes:
    """Put the subject in front of another background of the same size, without the old one's colour along its edge.

    Around the subject, the old background stays as far as `kept` says; see `kept_area`.
    """
    result = np.empty_like(pixels)
    colours = foreground_colours(pixels, matte)
    for rows in _strips(pixels.shape[0]):
        old, subject, new = (part[rows].astype(np.float32) for part in (pixels, colours, background))
        true_share = matte[rows].astype(np.float32)[..., None] / 255
        share = _softened(matte[rows], matte[rows], softness).astype(np.float32)[..., None] / 255
        whole = np.maximum(kept[rows].astype(np.float32)[..., None] / 255, share)
        behind = np.clip((old - true_share * subject) / np.maximum(1 - true_share, 1 / 255), 0, 255)
        mixed = share * subject + (whole - share) * behind + (1 - whole) * new
        result[rows] = np.where(true_share < 1, np.clip(np.round(mixed), 0, 255), old)
    return result


def fit_behind(background: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an image to cover `size` (width, height) and crop it to its middle; transparency becomes white."""
    return resized(on_white(background), size)


def _softened(hard: Bytes, soft: Bytes, softness: float) -> Bytes:
    """Interpolate between `hard`, thresholded at one half, and `soft` as it is."""
    if softness >= 1:
        return soft
    cut = np.where(hard >= 128, np.uint8(255), np.uint8(0))
    return np.asarray(cv2.addWeighted(soft, softness, cut, 1 - softness, 0), np.uint8)


def _gaussian(mask: Bytes, sigma: float) -> Bytes:
    """Blur the mask; wide blurs run on a reduced copy, whose detail they would remove anyway."""
    height, width = mask.shape
    factor = min(max(1, int(sigma / 4)), height, width)
    if factor == 1:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.uint8)
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma * size[0] / width, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(np.round(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)), np.uint8)


def _reduced(pixels: Bytes) -> Bytes:
    height, width = pixels.shape[:2]
    scale = min(1.0, _SMALL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _strips(height: int) -> Iterator[slice]:
    for top in range(0, height, _ROWS):
        yield slice(top, min(top + _ROWS, height))
