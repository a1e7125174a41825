"""Small real images, made without any library."""

import struct
import zlib

__all__ = ["png", "size_of"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(width: int, height: int, seed: int) -> bytes:
    """A PNG of one colour, another one for another seed."""
    colour = bytes((seed * 37 % 256, 255 - seed * 37 % 256, seed * 101 % 256))
    rows = (b"\0" + colour * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG; None for anything else."""
    if not data.startswith(_SIGNATURE) or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
