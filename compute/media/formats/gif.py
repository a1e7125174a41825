"""GIF: strips comments and applications' blocks before the first image."""

import io

from compute.media.formats.parts import parts

__all__ = ["is_gif", "strip"]

_SCREEN = 13
_EXTENSION, _IMAGE, _GRAPHIC_CONTROL = 0x21, 0x2C, 0xF9
_COLOURS_FOLLOW = 0x80


def is_gif(data: bytes) -> bool:
    return data[:6] in {b"GIF87a", b"GIF89a"}


def strip(data: bytes) -> io.BytesIO:
    """The file with the blocks that its first image needs, and everything from that image on."""
    view, position = memoryview(data), _SCREEN + _colours(data, 10)
    kept = io.BytesIO()
    kept.write(view[:position])
    counted = parts()
    for _ in counted:
        if position + 2 > len(data) or data[position] == _IMAGE:
            kept.write(view[position:])
            break
        if data[position] != _EXTENSION:
            # A stray byte, which decoders skip.
            position += 1
            continue
        end = position + 2
        while end < len(data) and data[end]:
            next(counted)
            end += 1 + data[end]
        if data[position + 1] == _GRAPHIC_CONTROL:
            kept.write(view[position : end + 1])
        position = end + 1
    kept.seek(0)
    return kept


def _colours(data: bytes, flags: int) -> int:
    """Bytes of the colour table announced by these flags."""
    return 3 << (data[flags] & 7) + 1 if len(data) > flags and data[flags] & _COLOURS_FOLLOW else 0
