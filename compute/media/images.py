"""Decodes untrusted image files: detects the format, checks the size first, and returns upright sRGB pixels."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import ExifTags, Image, UnidentifiedImageError

from compute.errors import InvalidInput
from compute.media.codec import is_plain, plain_mode
from compute.media.colours.profiles import to_srgb
from compute.media.colours.stated import stated_profiles
from compute.media.deep_pixels import raw_mode_of, to_eight_bits
from compute.media.formats.opened import FORMATS, open_image_file
from compute.media.formats.parts import MOST_PARTS, TooManyParts
from compute.media.rights import Rights, read_rights

__all__ = ["DecodedImage", "decode_cost", "decode_image", "image_size", "opening_cost"]

_log = logging.getLogger(__name__)

_ACCEPTED = ", ".join(FORMATS)

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_MODES = frozenset({"1", "L", "I;16", "I;16B", "I;16L", "I;16N"})
# Peak memory of a pixel: four bytes each as it was read, the lower bytes of deep colours, converted from its profile,
# upright, and encoded. tests/unit/media/test_decode_memory.py measures them.
_GREY_BYTES = 12
_COLOUR_BYTES = 24
# These decoders keep images of their own in addition.
_DECODER_BYTES = {"WEBP": 12, "AVIF": 12, "GIF": 8, "TIFF": 8}
_SPARE_BYTES = 8 * 2**20
# Once for the process: the warnings module keeps its filters in a global list that is not safe for threads.
warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright image in sRGB, mode L, RGB or RGBA, without metadata; `format` is Pillow's name of the file's format,
    `rights` the file's statement of author and owner."""

    image: Image.Image
    format: str
    rights: Rights | None = None


def decode_image(data: bytes, *, max_pixels: int, field: str) -> DecodedImage:
    """Decode the main image of a file: its first frame, or of a TIFF the first page that is no thumbnail. The size in
    the header is checked before memory is taken for pixels.

    Colours are converted from the space stated by the file (see colours/stated.py). Broken metadata is ignored. 16 bits
    a channel are rounded to eight, and grey stays grey. `max_pixels` counts width x height; Pillow's own limit of 89
    million applies, too.

    Raises:
        InvalidInput: not an accepted format, too many pixels, or damaged. `field` names the request's field.
    """
    with _refusals(field), open_image_file(data, field) as opened:
        _check_size(opened.size, max_pixels, field)
        raw_mode = raw_mode_of(opened)
        profiles = stated_profiles(opened, data, field)
        opened.load()
        coloured = to_srgb(to_eight_bits(opened, data, raw_mode, field), profiles)
        # Avoids one more copy of a large image if it is already plain.
        flat = coloured if coloured is not opened and is_plain(coloured) else plain_mode(coloured)
        upright = _upright(flat, _orientation(opened))
        rights = _rights(opened, data)
    upright.info = {}
    return DecodedImage(upright, opened.format or "PNG", rights)


def opening_cost(data: bytes) -> int:
    """The most memory, in bytes, that a file takes before its header is known: itself, its stripped copy for the
    decoder, and another copy for the lower bytes of deep colours."""
    return 3 * len(data) + _SPARE_BYTES


def decode_cost(data: bytes, *, max_pixels: int, field: str) -> int:
    """The most memory, in bytes, that `decode_image` and encoding its result take, estimated from the header.

    Raises:
        InvalidInput: as `decode_image`, as far as it shows in the header.
    """
    with _refusals(field), open_image_file(data, field) as opened:
        _check_size(opened.size, max_pixels, field)
        width, height = opened.size
        of_pixel = _GREY_BYTES if opened.mode in _GREY_MODES else _COLOUR_BYTES
        of_pixels = width * height * (of_pixel + _DECODER_BYTES.get(opened.format or "", 0))
        return of_pixels + opening_cost(data)


def image_size(head: bytes, *, field: str) -> tuple[int, int]:
    """Width and height in pixels, from the first bytes of a file written by this package (so it is upright).

    Raises:
        InvalidInput: these are not the first bytes of an image.
    """
    with _refusals(field), Image.open(io.BytesIO(head), formats=FORMATS) as opened:
        return opened.size


@contextmanager
def _refusals(field: str) -> Iterator[None]:
    try:
        yield
    except (InvalidInput, MemoryError):
        raise
    except TooManyParts as error:
        raise InvalidInput(
            f"The file has more than {MOST_PARTS} chunks, segments, tags or values; export the image anew.", field=field
        ) from error
    except UnidentifiedImageError as error:
        raise InvalidInput(f"Not an image in an accepted format ({_ACCEPTED}).", field=field) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidInput("The image has too many pixels.", field=field) from error
    except Exception as error:
        # Decoders raise errors of any kind for damaged files: OSError, SyntaxError, struct.error, IndexError …
        # The log keeps the details, which the response hides, in case the fault is in this code.
        _log.info("an image in %s could not be decoded: %r", field, error)
        raise InvalidInput("The image is damaged or incomplete.", field=field) from error


def _check_size(size: tuple[int, int], max_pixels: int, field: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidInput("The image has no pixels.", field=field)
    if width * height > max_pixels:
        raise InvalidInput(f"The image is {width} x {height}; at most {max_pixels} pixels are accepted.", field=field)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    transpose = _TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # The image is complete; a broken block of metadata is no reason to refuse it.
        return 1
    return value if isinstance(value, int) else 1


def _rights(image: Image.Image, data: bytes) -> Rights | None:
    try:
        return read_rights(image, data)
    except Exception as error:
        # As with its orientation: a broken block of metadata.
        _log.info("an image's metadata could not be read: %r", error)
        return None
