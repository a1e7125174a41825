"""Reduces images with more than eight bits a channel to eight bits, by rounding instead of truncation.

Pillow reads 16-bit grey as it is, but keeps only the upper byte of each channel of 16-bit colours. The lower bytes
come from the same decoder, by declaring the opposite byte order.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from compute.errors import InvalidInput
from compute.media.formats.opened import open_image_file

__all__ = ["raw_mode_of", "to_eight_bits"]

Box = tuple[int, int, int, int]

# libtiff hands out bytes in the order of this machine (16N), other decoders in that of the file (big or little endian).
_OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_COLOURS = ("RGB", "RGBX", "RGBA", "CMYK")
# Pillow's raw modes for the upper bytes of a file, and for the lower ones.
_OTHER_BYTES = {f"{mode};{order}": f"{mode};{other}" for mode in _COLOURS for order, other in _OTHER_ORDER.items()}
# Grey with alpha: grey high, grey low, alpha high, alpha low, which Pillow calls four channels.
_OTHER_BYTES["LA;16B"] = "RGBA"
_BAND_PIXELS = 2**20
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_BITS_PER_SAMPLE = 258
_ADVICE = "export the image with 8 or 16 bits a channel"


def to_eight_bits(image: Image.Image, data: bytes, raw_mode: str | None, field: str) -> Image.Image:
    """Convert a loaded image to eight bits a channel; an image with no more than that is returned as it is.

    `data` is the whole file, `raw_mode` the value of `raw_mode_of` before it was loaded.

    Raises:
        InvalidInput: its pixels are floating point or 32-bit numbers, whose black and white are undefined.
    """
    if image.mode.startswith("I;16"):
        return _grey(image)
    if image.mode in {"I", "F", "HSV"}:
        raise InvalidInput(f"Images with pixels of type {image.mode} are not accepted; {_ADVICE}.", field=field)
    if raw_mode not in _OTHER_BYTES:
        return image
    other = _read_as(data, image.mode, _OTHER_BYTES[raw_mode], field)
    if raw_mode == "LA;16B":
        return _by_bands(image.size, "LA", lambda box: _grey_and_alpha(np.asarray(other.crop(box))))
    clear = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(clear, tuple):
        return _by_bands(
            image.size, "RGBA", lambda box: _colours(image.crop(box), other.crop(box), "RGBA", np.array(clear))
        )
    return _by_bands(image.size, image.mode, lambda box: _colours(image.crop(box), other.crop(box), image.mode), other)


def raw_mode_of(opened: Image.Image) -> str | None:
    """Pillow's raw mode, the layout of the pixels in the file; of an image that is open and not loaded."""
    tiles = opened.tile if isinstance(opened, ImageFile.ImageFile) else []
    return _raw_mode(tiles[0].args) if tiles else None


def _by_bands(
    size: tuple[int, int], mode: str, work: Callable[[Box], Image.Image], into: Image.Image | None = None
) -> Image.Image:
    """Apply `work` to one band of rows after another, because 16-bit values are computed with 32 bits. `into` is an
    image of that size and mode whose pixels may be overwritten once their band is done."""
    width, height = size
    rows = max(_BAND_PIXELS // width, 1)
    made = Image.new(mode, size) if into is None else into
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        made.paste(work(box), box)
    return made


def _grey(image: Image.Image) -> Image.Image:
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        return _by_bands(image.size, "LA", lambda box: _clear_grey(_grey_values(image, box), clear))
    return _by_bands(image.size, "L", lambda box: _levels(_grey_values(image, box)))


def _grey_values(image: Image.Image, box: Box) -> NDArray[np.uint32]:
    values = np.asarray(image.crop(box)).astype(np.uint32)
    tags: Any = getattr(image, "tag_v2", {})
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        values = values * 65535 // (2**bits - 1)
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            values = 65535 - values
    return values


def _clear_grey(values: NDArray[np.uint32], clear: int) -> Image.Image:
    return Image.merge("LA", (_levels(values), _opaque(values != clear)))


def _grey_and_alpha(four: NDArray[np.uint8]) -> Image.Image:
    return Image.merge("LA", [_levels(_joined(four[..., high], four[..., high + 1])) for high in (0, 2)])


def _colours(high: Image.Image, low: Image.Image, mode: str, clear: NDArray[Any] | None = None) -> Image.Image:
    values = _joined(np.asarray(high), np.asarray(low))
    bands = [_levels(values[..., band]) for band in range(values.shape[2])]
    if clear is not None:
        bands.append(_opaque((values != clear).any(axis=-1)))
    return Image.merge(mode, bands)


def _read_as(data: bytes, mode: str, raw_mode: str, field: str) -> Image.Image:
    """Decode the file once more; its size and its format have been checked."""
    opened = open_image_file(data, field)
    if isinstance(opened, ImageFile.ImageFile):
        opened.tile = [tile._replace(args=_with_raw_mode(tile.args, raw_mode)) for tile in opened.tile]
    opened.load()
    if opened.mode != mode:
        raise ValueError(f"decoded as {opened.mode} instead of {mode}")
    return opened


def _raw_mode(args: Any) -> str | None:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else None


def _with_raw_mode(args: Any, raw_mode: str) -> Any:
    return (raw_mode, *args[1:]) if isinstance(args, tuple) else raw_mode


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint32]:
    return np.asarray(high.astype(np.uint32) * 256 + low, np.uint32)


def _levels(values: NDArray[np.uint32]) -> Image.Image:
    """Round 0..65535 to the nearest of 0..255."""
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _opaque(where: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(np.where(where, 255, 0).astype(np.uint8))
