"""Fine detail of an image: sharpens it, or transfers it from another image."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.imaging.lab import lab_from_srgb, srgb_from_lab
from compute.imaging.resize import at_size

__all__ = ["sharpen", "transfer_detail"]

Floats = NDArray[np.float32]

_BANDS = 4
"""Octaves that count as detail; coarser ones are shape, light and colour, and stay unchanged."""
_COARSEST = 8
"""Pixels that the coarsest level must still have."""
_MOST_GAIN = 2.5
_STILL = 0.15
"""Contrast (in L*) below which a band is only noise and rounding."""
_TEXTURE = 2.0
"""Sigma in pixels: detail that it blurs away is texture, the rest is structure."""
_PLAIN = 2.0
"""Contrast (in L*) of structure that is ignored."""
_NEIGHBOURHOOD = 0.04
"""Sigma of a pixel's neighbourhood, as a share of the shorter side."""
_CLAHE_CLIP = 2.0
_CLAHE_SHARE = 0.15
_UNSHARP = 0.9


def sharpen(image: Image.Image, amount: float) -> Image.Image:
    """Increase local contrast and sharpen edges of an RGB image, without a model.

    A little contrast limited adaptive histogram equalisation (Zuiderveld 1994), then an unsharp mask, both on luminance
    only, so that colours stay. `amount` is in [0, 1]; 0 returns the image unchanged.
    """
    if amount <= 0:
        return image.copy()
    lab = lab_from_srgb(np.asarray(image.convert("RGB")))
    light = lab[..., 0]
    levels = np.round(light * (65535 / 100)).astype(np.uint16)
    equalised = cv2.createCLAHE(_CLAHE_CLIP, (4, 4)).apply(levels).astype(np.float32) * (100 / 65535)
    contrasted = light + amount * _CLAHE_SHARE * (equalised - light)
    radius = max(1.0, min(image.size) / 256)
    lab[..., 0] = contrasted + amount * _UNSHARP * (contrasted - cv2.GaussianBlur(contrasted, (0, 0), radius))
    return _image(lab)


def transfer_detail(
    image: Image.Image, reference: Image.Image, amount: float, *, mask: Image.Image, reference_mask: Image.Image
) -> Image.Image:
    """Give the image the fine detail of the reference, keeping its own shape, light and colour.

    Both are split into the bands of a Laplacian pyramid (Burt, Adelson 1983). Every band of the luminance is amplified
    towards the energy that the reference has in it, as in Heeger, Bergen, "Pyramid-based texture analysis" (1995);
    then, where both show the same and the reference has more detail, its band takes over, as in Burt, Kolczynski,
    "Enhanced image capture through fusion" (1993). A reference in another position therefore gives its texture without
    ghosts. Nothing is ever blurred: a band with more energy than the reference's stays.

    Args:
        image, reference: RGB. The reference is stretched over the image, so both should show the same part.
        amount: In [0, 1]; 0 returns the image unchanged.
        mask, reference_mask: Mode L, of the size of their image; energy is measured where they are white.
    """
    if amount <= 0:
        return image.copy()
    stretched = at_size(reference.convert("RGB"), image.size)
    lab, other = (lab_from_srgb(np.asarray(each.convert("RGB"))) for each in (image, stretched))
    seen = _weights(mask)
    seen_there = _weights(reference_mask.resize(image.size))
    # The subject's outline is not detail: without it, no ghost of one outline can show beside the other.
    inside, inside_there = _filled(lab, seen), _filled(other, seen_there)
    bands, rest = _pyramid(inside)
    wanted, _ = _pyramid(inside_there)
    same = seen * seen_there * _agreement(inside[..., 0], inside_there[..., 0])
    merged = [
        _merged(band, want, amount, *(_at_size(weights, band) for weights in (seen, seen_there, same)))
        for band, want in zip(bands, wanted, strict=True)
    ]
    return _image(lab + _collapsed(merged, rest) - inside)


def _weights(mask: Image.Image) -> Floats:
    return np.asarray(mask, np.float32) / np.float32(255)


def _merged(band: Floats, wanted: Floats, amount: float, seen: Floats, seen_there: Floats, same: Floats) -> Floats:
    """One band with the energy, and where they show the `same` the structure, of another; all (height, width, …)."""
    energy, goal = _energy(band, seen), _energy(wanted, seen_there)
    gain = float(np.clip((goal + _STILL) / (energy + _STILL), 1.0, _MOST_GAIN))
    amplified = band.copy()
    # An edge that already stands out is not texture, and would get a halo.
    texture = np.minimum(1, goal / (np.sqrt(_local_energy(band)) + _STILL))
    amplified[..., 0] *= 1 + amount * (gain - 1) * texture
    here, there = (_local_energy(one) for one in (amplified, wanted))
    share = amount * same * np.maximum(there - here, 0) / (there + here + _STILL)
    return np.asarray(amplified + share[..., None] * (wanted - amplified), np.float32)


def _filled(lab: Floats, weights: Floats) -> Floats:
    """Replace pixels of low weight by the colours of weighted pixels nearby (normalised convolution)."""
    sigma = max(2.0, min(weights.shape) / 16)
    total = (lab * weights[..., None]).sum(axis=(0, 1)) / max(float(weights.sum()), 1e-6)
    near = np.asarray(cv2.GaussianBlur(weights, (0, 0), sigma), np.float32)[..., None]
    colours = np.asarray(cv2.GaussianBlur(lab * weights[..., None], (0, 0), sigma), np.float32)
    fill = (colours + 1e-3 * total) / (near + 1e-3)
    return np.asarray(fill + weights[..., None] * (lab - fill), np.float32)


def _agreement(light: Floats, other: Floats) -> Floats:
    """The agreement of two luminances' structure (coarser than texture) around every pixel, from 0 to 1.

    SSIM's contrast and structure terms. Where both are plain they agree, so texture can be transferred.
    """
    sigma = max(4.0, min(light.shape) * _NEIGHBOURHOOD)
    one, two = (cv2.GaussianBlur(values, (0, 0), _TEXTURE) for values in (light, other))

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)

    one, two = one - mean(one), two - mean(two)
    likeness = (2 * mean(one * two) + _PLAIN**2) / (mean(one * one) + mean(two * two) + _PLAIN**2)
    return np.clip(likeness, 0, 1) ** 2


def _energy(band: Floats, weights: Floats) -> float:
    """Weighted mean amplitude of the luminance; unlike a mean square it is hardly affected by a few edges."""
    return float((np.abs(band[..., 0]) * weights).sum() / max(float(weights.sum()), 1e-6))


def _local_energy(band: Floats) -> Floats:
    """Square of the luminance, averaged around every pixel."""
    return np.asarray(cv2.GaussianBlur(band[..., 0] ** 2, (0, 0), 2.0), np.float32)


def _pyramid(lab: Floats) -> tuple[list[Floats], Floats]:
    """Bands from fine to coarse, each of its level's size, and the low-frequency rest."""
    bands: list[Floats] = []
    level = lab
    while len(bands) < _BANDS and min(level.shape[:2]) >= 2 * _COARSEST:
        smaller = np.asarray(cv2.pyrDown(level), np.float32)
        bands.append(level - _up(smaller, level))
        level = smaller
    return bands, level


def _collapsed(bands: Sequence[Floats], rest: Floats) -> Floats:
    for band in reversed(bands):
        rest = band + _up(rest, band)
    return rest


def _up(smaller: Floats, like: Floats) -> Floats:
    return np.asarray(cv2.pyrUp(smaller, dstsize=(like.shape[1], like.shape[0])), np.float32)


def _at_size(mask: Floats, band: Floats) -> Floats:
    return np.asarray(cv2.resize(mask, (band.shape[1], band.shape[0]), interpolation=cv2.INTER_AREA), np.float32)


def _image(lab: Floats) -> Image.Image:
    lab[..., 0] = np.clip(lab[..., 0], 0, 100)
    return Image.fromarray(np.round(srgb_from_lab(lab)).astype(np.uint8))
