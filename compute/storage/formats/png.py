"""PNG: its chunks, and the file made of those that the pixels need.

A decoder that reads everything stumbles over what it would throw away: a comment with a wrong checksum, a text of many
megabytes. So those chunks never reach it.
"""

import struct
import zlib
from collections.abc import Iterator

__all__ = ["SIGNATURE", "bare", "colour_chunks"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_COLOURS = frozenset({b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"})
_RIGHTS = (b"Author\0", b"Copyright\0")
_MOST_TEXT = 2**16
_ANCILLARY = 0x20
_END = b"\0\0\0\0IEND\xaeB`\x82"

Chunk = tuple[bytes, memoryview, bool]
"""Its type, all of it with length and checksum, and whether the checksum is right (of what is small or optional)."""


def bare(data: bytes) -> bytes:
    """The file with the chunks of its first picture, its EXIF, and the short texts that say who made and owns it.

    What is damaged among the chunks that the pixels need stays damaged.
    """
    kept: list[bytes | memoryview] = [SIGNATURE]
    cut_off = False
    for kind, whole, sound in _chunks(data):
        cut_off = _needed(kind) and not sound
        if _needed(kind) or (sound and _told(kind, whole)):
            kept.append(whole)
    if not cut_off:
        kept.append(_END)
    return b"".join(kept)


def colour_chunks(data: bytes) -> dict[bytes, bytes]:
    """The contents of cICP, iCCP, sRGB, gAMA and cHRM: the first sound one of each before the pixels."""
    found: dict[bytes, bytes] = {}
    for kind, whole, sound in _chunks(data):
        if kind == b"IDAT":
            break
        if kind in _COLOURS and sound:
            found.setdefault(kind, bytes(whole[8:-4]))
    return found


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Up to the end, or to where the file is cut off: a piece of a needed chunk is handed out as it is."""
    view, position = memoryview(data), len(SIGNATURE)
    while position + 8 <= len(data):
        (length,) = struct.unpack(">I", view[position : position + 4])
        kind = bytes(view[position + 4 : position + 8])
        whole = view[position : position + 12 + length]
        if kind == b"IEND":
            return
        yield kind, whole, len(whole) == 12 + length and (_needed(kind) or _checks(whole))
        position += 12 + length


def _checks(whole: memoryview) -> bool:
    return zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], "big")


def _needed(kind: bytes) -> bool:
    """Chunks whose type begins with a capital letter, and what says which colour is transparent."""
    return kind == b"tRNS" or not kind[0] & _ANCILLARY


def _told(kind: bytes, whole: memoryview) -> bool:
    if kind == b"eXIf":
        return True
    return kind in {b"tEXt", b"iTXt"} and len(whole) <= _MOST_TEXT and bytes(whole[8:40]).startswith(_RIGHTS)
