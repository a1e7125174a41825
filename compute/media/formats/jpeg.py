"""JPEG: strips comments and applications' segments."""

import io
import re
import struct
from collections import Counter
from collections.abc import Iterator

from compute.media.formats.parts import MOST_EXIF, MOST_PARTS, parts

__all__ = ["SIGNATURE", "strip"]

SIGNATURE = b"\xff\xd8"

_START_OF_SCAN = 0xDA
_COMMENT = 0xFE
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_BYTES = 12
_PROFILE_HEAD = 14
"""Bytes of the mark, the number of this part of the profile, and the number of parts."""
# The decoder joins segments of a kind; a profile numbers its own with one byte.
_MOST_OF_KIND = {0xE1: MOST_EXIF // 2**16, 0xE2: 255}
_FILL = re.compile(rb"\xff+")


def strip(data: bytes) -> io.BytesIO:
    """The file with only the segments of its pixels and colours: tables, frame, scans, JFIF, Adobe, EXIF, ICC."""
    kept, found = io.BytesIO(), Counter[int]()
    kept.write(SIGNATURE)
    for marker, whole in _segments(data):
        if 0xE0 <= marker <= 0xEF:
            content = _application(marker, whole)
            found[marker] += bool(content)
            if found[marker] <= _MOST_OF_KIND.get(marker, MOST_PARTS):
                kept.write(content)
        elif marker != _COMMENT:
            kept.write(whole)
    kept.seek(0)
    return kept


def _segments(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield marker and bytes of each segment; the last one is everything from the first scan on."""
    view, position = memoryview(data), len(SIGNATURE)
    for _ in parts():
        if position + 4 > len(data):
            return
        if data[position] != 0xFF:
            # Stray bytes, which decoders skip up to the next marker.
            position = _next_marker(data, position)
            continue
        marker = data[position + 1]
        if marker == 0xFF:
            position = _last_fill_byte(data, position)
        elif marker in _ALONE:
            position += 2
        elif marker == _START_OF_SCAN:
            yield marker, view[position:]
            return
        else:
            (length,) = struct.unpack(">H", view[position + 2 : position + 4])
            yield marker, view[position : position + 2 + length]
            position += 2 + max(length, 2)


def _last_fill_byte(data: bytes, position: int) -> int:
    run = _FILL.match(data, position)
    return position if run is None else run.end() - 1


def _next_marker(data: bytes, position: int) -> int:
    found = data.find(b"\xff", position)
    return len(data) if found < 0 else found


def _application(marker: int, whole: memoryview) -> bytes | memoryview:
    """The segment if the pixels or their colours depend on it, else nothing."""
    content = bytes(whole[4:20])
    if marker == 0xE0 and content.startswith(b"JFIF\0"):
        # Its presence decides how colours are coded; its content, the resolution, is not needed.
        return _JFIF
    if marker == 0xE1 and content.startswith(b"Exif\0\0"):
        return whole
    if marker == 0xE2 and content.startswith(b"ICC_PROFILE\0") and len(whole) > 4 + _PROFILE_HEAD:
        return whole
    if marker == 0xEE and content.startswith(b"Adobe") and len(whole) >= 4 + _ADOBE_BYTES:
        return whole
    return b""
