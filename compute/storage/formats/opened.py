"""A picture file opened: only what its pixels need reaches the decoder."""

import io

from PIL import Image

from compute.storage.formats import avif, jpeg, png, tiff, webp

__all__ = ["FORMATS", "open_picture"]

# MPO (two pictures in a file, from phones) is opened as a JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def open_picture(data: bytes, field: str) -> Image.Image:
    """The file with its header read and its pixels not yet; of several pictures the one that it is about.

    Metadata that no decoder could read is not in the way. Raises what Pillow raises, and

    Raises:
        InvalidInput: a TIFF that holds only masks.
    """
    try:
        return Image.open(io.BytesIO(_bare(data, field)), formats=FORMATS)
    except Exception:
        if not avif.is_avif(data):
            raise
        return Image.open(io.BytesIO(avif.without_metadata(data)), formats=FORMATS)


def _bare(data: bytes, field: str) -> bytes:
    if data.startswith(png.SIGNATURE):
        return png.bare(data)
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.bare(data)
    if webp.is_webp(data):
        return webp.bare(data)
    return tiff.bare(data, field) if tiff.is_tiff(data) else data
