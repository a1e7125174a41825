"""What a model changed at a small size, brought into the large image."""

from PIL import Image, ImageChops

__all__ = ["with_change"]

_NONE = 128
"""Of a channel that did not change."""


def with_change(image: Image.Image, before: Image.Image, after: Image.Image) -> Image.Image:
    """`image` with the difference between `before` and `after`, enlarged; so its own fine detail stays. All RGB.

    `before` is `image` at a smaller size, at which it was drawn anew as `after`. A channel changes by 127 at most.
    """
    change = ImageChops.subtract(after, before, scale=1, offset=_NONE)
    enlarged = change.resize(image.size, Image.Resampling.BICUBIC)
    return ImageChops.add(image, enlarged, scale=1, offset=-_NONE)
