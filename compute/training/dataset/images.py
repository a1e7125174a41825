"""Validates image files of a data set: decodes them as RGB, or rejects them with a reason."""

from dataclasses import dataclass

from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.flatten import on_white
from compute.media.images import decode_image

__all__ = ["MIN_SIDE", "Rejected", "check_image"]

MIN_SIDE = 32
"""Least side in pixels; a smaller image would only teach blur."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file of the data set that is not used for training: its name for the user, and the reason."""

    file: str
    reason: str


def check_image(
    data: bytes, name: str, *, max_bytes: int, max_pixels: int, keep_alpha: bool = False
) -> Image.Image | Rejected:
    """Decode an image file: upright, in sRGB, mode RGB, at least MIN_SIDE pixels a side; or return why it is rejected.

    Transparency becomes white. With `keep_alpha` it stays and the mode is RGBA, for a background removal that uses it.
    `max_bytes` bounds the file and `max_pixels` width x height, before memory is allocated.
    """
    if not data:
        return Rejected(name, "the file is empty")
    if len(data) > max_bytes:
        return Rejected(name, f"the file has {len(data)} bytes; an image has at most {max_bytes}")
    try:
        image = decode_image(data, max_pixels=max_pixels, field="dataset_url").image
    except InvalidInput as error:
        return Rejected(name, error.detail)
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        return Rejected(name, f"too small: {width} x {height} pixels; a side has at least {MIN_SIDE}")
    return image.convert("RGBA") if keep_alpha and image.has_transparency_data else on_white(image)
