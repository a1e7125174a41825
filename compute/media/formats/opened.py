"""Opens image files so that only the parts needed for the pixels reach the decoder."""

import io

from PIL import Image

from compute.media.formats import avif, gif, jpeg, png, webp
from compute.media.formats.parts import MOST_EXIF
from compute.media.formats.tiff import pages as tiff

__all__ = ["FORMATS", "open_image_file"]

# MPO (two images in a file, from phones) is opened as a JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def open_image_file(data: bytes, field: str) -> Image.Image:
    """Open an image file: reads the header, not yet the pixels; of several images the main one.

    Metadata that no decoder could read is removed. Raises what Pillow raises, and:

    Raises:
        InvalidInput: a TIFF that contains only masks.
        TooManyParts: reading it would take far more time than its size suggests.
    """
    stripped = _strip(data, field)
    try:
        opened = Image.open(stripped, formats=FORMATS)
    except Exception:
        if not avif.is_avif(data):
            raise
        opened = Image.open(avif.without_metadata(data), formats=FORMATS)
    if len(opened.info.get("exif") or b"") > MOST_EXIF:
        del opened.info["exif"]
    return opened


def _strip(data: bytes, field: str) -> io.BytesIO:
    """The stripped file for the decoder; a copy of the file at most."""
    if data.startswith(png.SIGNATURE):
        return png.strip(data)
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.strip(data)
    if webp.is_webp(data):
        return webp.strip(data)
    if gif.is_gif(data):
        return gif.strip(data)
    return tiff.strip(data, field) if tiff.is_tiff(data) else io.BytesIO(data)
