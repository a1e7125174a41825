"""Bytes of unknown origin to pixels: sniffed, measured before they are decoded, upright, in sRGB."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from compute.errors import InvalidInput
from compute.storage.codec import plain_mode

__all__ = ["DecodedImage", "decode_image", "image_size"]

_log = logging.getLogger(__name__)

# MPO (two pictures in a file, from phones) is opened as a JPEG.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_ACCEPTED = "PNG, JPEG, WEBP, GIF, BMP, TIFF, AVIF"

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The colour spaces of profiles, as they are written in them, and the modes that they describe.
_PROFILE_MODES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",)}

# Once for the process: the warnings module keeps its filters in a global list that threads would tear.
warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright image in sRGB, mode L, RGB or RGBA, with no metadata; `format` is Pillow's name of its file."""

    image: Image.Image
    format: str


def decode_image(data: bytes, *, max_pixels: int, field: str) -> DecodedImage:
    """Decode the first frame. The size in the header is checked before memory is taken for pixels.

    `max_pixels` counts width x height; Pillow's own limit of 89 million holds besides.

    Raises:
        InvalidInput: not an accepted format, too many pixels, or damaged. `field` names the request's field.
    """
    with _refusals(field), Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
        _check_size(opened.size, max_pixels, field)
        opened.load()
        image_format = opened.format or "PNG"
        flat = plain_mode(_to_srgb(_to_eight_bits(_upright(opened), field)))
    flat.info = {}
    return DecodedImage(flat, image_format)


def image_size(head: bytes, *, field: str) -> tuple[int, int]:
    """Width and height in pixels, from the first bytes of a file that we wrote ourselves (so it lies upright).

    Raises:
        InvalidInput: these are not the first bytes of an image.
    """
    with _refusals(field), Image.open(io.BytesIO(head), formats=_FORMATS) as opened:
        return opened.size


@contextmanager
def _refusals(field: str) -> Iterator[None]:
    try:
        yield
    except (InvalidInput, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InvalidInput(f"not an image in an accepted format ({_ACCEPTED})", field=field) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidInput("the image has too many pixels", field=field) from error
    except Exception as error:
        # Decoders answer damaged files with errors of any kind: OSError, SyntaxError, struct.error, IndexError …
        # The log keeps what the answer hides, should it be a fault of ours.
        _log.info("an image in %s could not be decoded: %r", field, error)
        raise InvalidInput("the image is damaged or incomplete", field=field) from error


def _check_size(size: tuple[int, int], max_pixels: int, field: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidInput("the image has no pixels", field=field)
    if width * height > max_pixels:
        raise InvalidInput(f"the image is {width} x {height}; at most {max_pixels} pixels are accepted", field=field)


def _upright(image: Image.Image) -> Image.Image:
    transpose = _TRANSPOSES.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # The picture is whole; that a camera wrote a broken block beside it is no reason to refuse it.
        return 1
    return value if isinstance(value, int) else 1


def _to_eight_bits(image: Image.Image, field: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip these at 255 instead of scaling them.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"I", "F", "LAB", "HSV"}:
        raise InvalidInput(f"images with pixels of type {image.mode} are not accepted", field=field)
    return image


def _to_srgb(image: Image.Image) -> Image.Image:
    """The image with its colour profile applied; a profile that is broken or does not fit is ignored."""
    profile_bytes = image.info.get("icc_profile")
    if not profile_bytes:
        return image
    image = plain_mode(image) if image.mode in {"P", "PA", "LA", "YCbCr"} else image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        description = ImageCms.getProfileDescription(profile)
        modes = _PROFILE_MODES.get(profile.profile.xcolor_space, ())
        if image.mode not in modes or description.startswith("sRGB"):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted
