"""Encodes images for vendors' models."""

from PIL import Image

from compute.imaging.flatten import on_white
from compute.media.codec import ImageFormat, encode

__all__ = ["encoded_for_vendor"]

_MOST_PIXELS = 3 * 2**20
"""Of a PNG. Larger images go as JPEG of high quality: vendors limit the bytes of a request."""


def encoded_for_vendor(image: Image.Image) -> tuple[bytes, str]:
    """The bytes of an image and their content type. Transparency becomes white."""
    kind: ImageFormat = "png" if image.width * image.height <= _MOST_PIXELS else "jpeg"
    return encode(on_white(image), kind), f"image/{kind}"
