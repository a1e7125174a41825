"""Transfers a model's change at a small size to the large image."""

from PIL import Image, ImageChops

__all__ = ["with_change"]

_NONE = 128
"""The value of a channel without change."""


def with_change(image: Image.Image, before: Image.Image, after: Image.Image) -> Image.Image:
    """Add the enlarged difference between `before` and `after` to `image`, whose fine detail stays. All RGB.

    `before` is `image` at a smaller size, `after` its regeneration at that size. A channel changes by 127 at most.
    """
    change = ImageChops.subtract(after, before, scale=1, offset=_NONE)
    enlarged = change.resize(image.size, Image.Resampling.BICUBIC)
    return ImageChops.add(image, enlarged, scale=1, offset=-_NONE)
