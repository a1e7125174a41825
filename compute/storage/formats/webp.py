"""WebP: the file without the chunks that hold no pixels."""

import struct
from collections.abc import Iterator

__all__ = ["bare", "is_webp"]

_KEPT = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF"})
_PIXELS = frozenset({b"VP8 ", b"VP8L", b"ANMF"})


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def bare(data: bytes) -> bytes:
    """The file with its pictures, its profile and its EXIF, and the sizes that go with that."""
    kept = b"".join(whole for kind, whole in _chunks(data) if kind in _KEPT)
    return b"RIFF" + struct.pack("<I", 4 + len(kept)) + b"WEBP" + kept


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Up to what is cut off: of pixels the piece is handed out, so that the decoder sees it; the rest is dropped."""
    position = 12
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        (length,) = struct.unpack("<I", data[position + 4 : position + 8])
        end = position + 8 + length
        if end <= len(data):
            yield kind, data[position:end] + bytes(length % 2)
        elif kind in _PIXELS:
            yield kind, data[position:]
        position = end + length % 2
