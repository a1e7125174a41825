"""Converts images from the colours of their ICC profile to sRGB."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from compute.media.codec import plain_mode

__all__ = ["to_srgb"]

# The colour spaces of profiles, as they are written in them, and the mode that each describes.
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
# The default of photographers' tools: colours that both spaces contain stay as they are, and so does black.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


def to_srgb(image: Image.Image, profiles: Sequence[bytes]) -> Image.Image:
    """Convert an image to sRGB by the first of these ICC profiles that fits it; L, RGB or RGBA if one does.

    A profile that is broken, or describes other channels than the image has, is ignored. LAB is defined without a
    profile and always converted. A profile that moves no colour by more than one level counts as sRGB, whatever its
    name, and changes nothing.
    """
    if image.mode == "LAB":
        return _converted(image, ImageCms.createProfile("LAB"))
    if not profiles:
        return image
    alpha = None
    colours = image if image.mode in {"L", "RGB", "CMYK"} and "transparency" not in image.info else plain_mode(image)
    if colours.mode == "RGBA":
        alpha = colours.getchannel("A")
        colours = colours.convert("L" if image.mode == "LA" else "RGB")
    for profile in profiles:
        try:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if _PROFILE_MODES.get(opened.profile.xcolor_space) != colours.mode:
                continue
            if _is_srgb(opened, colours.mode):
                return image
            converted = _converted(colours, opened)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            continue
        if alpha is not None:
            converted.putalpha(alpha)
        return converted
    return image


def _converted(colours: Image.Image, profile: Any) -> Image.Image:
    """RGB, or L where the image is grey; `profile` is one of Pillow's two kinds."""
    transform = ImageCms.buildTransform(
        profile, ImageCms.createProfile("sRGB"), colours.mode, "RGB", renderingIntent=_INTENT, flags=_FLAGS
    )
    converted = ImageCms.applyTransform(colours, transform)
    if converted is None:
        raise ValueError("a transform that is not in place gives an image")
    # Grey in, grey out: the three channels are the same, give or take the rounding of one level.
    return converted.getchannel("G") if colours.mode == "L" else converted


def _is_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> bool:
    if mode == "CMYK":
        return False
    if mode == "L":
        samples = np.arange(256, dtype=np.uint8)[None, :]
    else:
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        samples = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(_converted(Image.fromarray(samples), profile), np.int16)
    return bool(np.abs(converted - samples).max() <= 1)
