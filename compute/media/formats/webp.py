"""WebP: strips the chunks without pixels."""

import io
import struct
from collections.abc import Iterator

from compute.media.formats.parts import MOST_EXIF, parts

__all__ = ["is_webp", "strip"]

_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF"})
_PIXELS = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
_HEAD = 12


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def strip(data: bytes) -> io.BytesIO:
    """The file with only its images, its profile and its EXIF, and adjusted sizes."""
    kept = io.BytesIO()
    kept.write(data[:_HEAD])
    for kind, whole, padding in _chunks(data):
        if kind in _KEPT and not (kind == b"EXIF" and len(whole) > MOST_EXIF):
            kept.write(whole)
            kept.write(padding)
    size = kept.tell()
    kept.seek(4)
    kept.write(struct.pack("<I", size - 8))
    kept.seek(0)
    return kept


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bytes]]:
    """Yield the chunks. Of a truncated file an incomplete chunk of pixels is included, for the decoder to report."""
    view, position = memoryview(data), _HEAD
    for _ in parts():
        if position + 8 > len(data):
            return
        kind = data[position : position + 4]
        (length,) = struct.unpack_from("<I", data, position + 4)
        end = position + 8 + length
        if end <= len(data):
            yield kind, view[position:end], bytes(length % 2)
        elif kind in _PIXELS:
            yield kind, view[position:], b""
        position = end + length % 2
