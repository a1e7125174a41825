"""Blends a patch back: matches its colours to the surroundings, feathers its edge, changes no pixel outside."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.imaging.lab import lab_from_srgb, srgb_from_lab

__all__ = ["feathered_ellipse", "match_colour", "match_histogram", "paste", "with_mode_of"]

_CONTRAST_CHANGE = 2.0
"""A channel's spread is at most doubled or halved: a flat patch has no contrast that could be stretched."""


def match_colour(patch: Image.Image, target: Image.Image) -> Image.Image:
    """Give the patch the mean and the spread of the target's colours; both RGB, of any size.

    Reinhard et al., "Color transfer between images" (2001), in CIE L*a*b*.
    """
    lab, wanted = (lab_from_srgb(np.asarray(image.convert("RGB"))) for image in (patch, target))
    mean, spread = _statistics(lab)
    wanted_mean, wanted_spread = _statistics(wanted)
    # The small constant lets a patch and a target that are both flat keep a ratio of one.
    ratio = np.clip((wanted_spread + 1e-3) / (spread + 1e-3), 1 / _CONTRAST_CHANGE, _CONTRAST_CHANGE)
    matched = srgb_from_lab(((lab - mean) * ratio + wanted_mean).astype(np.float32))
    return Image.fromarray(np.round(matched).astype(np.uint8))


def match_histogram(patch: Image.Image, target: Image.Image) -> Image.Image:
    """Give each channel of the patch the distribution of values that it has in the target; both RGB, of any size.

    Gonzalez and Woods, "Digital Image Processing", section 3.3.2: values of the same rank correspond.
    """
    pixels, wanted = (np.asarray(image.convert("RGB")) for image in (patch, target))
    matched = [_ranked(pixels[..., channel], wanted[..., channel]) for channel in range(3)]
    return Image.fromarray(np.stack(matched, axis=-1))


def feathered_ellipse(size: tuple[int, int], *, feather: float = 0.3) -> Image.Image:
    """Mode L: 255 in the middle, 0 from the inscribed ellipse outwards, a smooth step between.

    Args:
        size: (width, height) in pixels.
        feather: Share of the radius over which it falls from 255 to 0, above 0 and at most 1.
    """
    width, height = size
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = (np.arange(height) + 0.5) / height * 2 - 1
    inward = (1 - np.hypot(x[None, :], y[:, None])) / feather
    share = np.clip(inward, 0, 1)
    return Image.fromarray(np.round(255 * share * share * (3 - 2 * share)).astype(np.uint8))


def paste(image: Image.Image, patch: Image.Image, box: tuple[int, int, int, int], mask: Image.Image) -> None:
    """Lay the patch over the RGB image, in place; where the mask is 0 no pixel changes.

    Args:
        box: (left, top, right, bottom) in pixels; patch and mask have its size.
        mask: Mode L, 255 shows the patch.

    Raises:
        ValueError: the patch or the mask is not of the box's size.
    """
    size = (box[2] - box[0], box[3] - box[1])
    if patch.size != size or mask.size != size:
        raise ValueError(f"The box is {size}, the patch {patch.size}, the mask {mask.size}.")
    image.paste(patch, (box[0], box[1]), mask)


def with_mode_of(image: Image.Image, colours: Image.Image) -> Image.Image:
    """RGB colours in the mode of the image that they come from (L, RGB or RGBA), with its transparency."""
    result = colours.convert(image.mode)
    if image.mode == "RGBA":
        result.putalpha(image.getchannel("A"))
    return result


def _statistics(lab: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of every channel."""
    flat = lab.reshape(-1, 3).astype(np.float64)
    return flat.mean(axis=0), flat.std(axis=0)


def _ranked(values: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The values, replaced by those of the same rank in `wanted`."""
    have, want = (np.cumsum(np.bincount(one.ravel(), minlength=256)) / one.size for one in (values, wanted))
    # The middle of a value's ranks, so that a channel that has them already keeps its values.
    middle = (have + np.concatenate([[0.0], have[:-1]])) / 2
    table: NDArray[np.uint8] = np.searchsorted(want, middle, side="left").clip(0, 255).astype(np.uint8)
    return np.asarray(table[values], np.uint8)
