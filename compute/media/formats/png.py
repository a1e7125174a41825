"""PNG: reads its chunks, and strips those that the pixels do not need.

A decoder that reads everything fails on parts that it would discard: a comment with a wrong checksum, a text of many
megabytes. Those chunks therefore never reach it.
"""

import io
import struct
import zlib
from collections.abc import Iterator

from compute.media.formats.parts import MOST_EXIF, parts

__all__ = ["SIGNATURE", "colour_chunks", "strip", "texts"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_COLOURS = frozenset({b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"})
_MOST_TEXT = 2**16
_ANCILLARY = 0x20
_END = b"\0\0\0\0IEND\xaeB`\x82"

Chunk = tuple[bytes, memoryview, bool]
"""Type, all bytes with length and checksum, and whether the checksum is right (of small or optional chunks)."""


def strip(data: bytes) -> io.BytesIO:
    """The file with only the chunks of its first image and its EXIF.

    Damage in the chunks that the pixels need stays.
    """
    kept = io.BytesIO()
    kept.write(SIGNATURE)
    cut_off = False
    for kind, whole, sound in _chunks(data):
        cut_off = _needed(kind) and not sound
        if _needed(kind) or (kind == b"eXIf" and sound and len(whole) <= MOST_EXIF):
            kept.write(whole)
    if not cut_off:
        kept.write(_END)
    kept.seek(0)
    return kept


def colour_chunks(data: bytes) -> dict[bytes, bytes]:
    """The contents of cICP, iCCP, sRGB, gAMA and cHRM: the first undamaged one of each before the pixels."""
    found: dict[bytes, bytes] = {}
    for kind, whole, sound in _chunks(data):
        if kind == b"IDAT":
            break
        if kind in _COLOURS and sound:
            found.setdefault(kind, bytes(whole[8:-4]))
    return found


def texts(data: bytes, keywords: frozenset[str]) -> dict[str, str]:
    """The first undamaged text under each of these keywords; long or broken ones are ignored."""
    found: dict[str, str | None] = {}
    for kind, whole, sound in _chunks(data):
        if kind in _READERS and sound and len(whole) <= _MOST_TEXT:
            name, _, rest = bytes(whole[8:-4]).partition(b"\0")
            keyword = name.decode("latin-1")
            if keyword in keywords and keyword not in found:
                found[keyword] = _READERS[kind](rest)
    return {keyword: text for keyword, text in found.items() if text is not None}


def _plain(rest: bytes) -> str | None:
    return rest.decode("latin-1")


def _packed(rest: bytes) -> str | None:
    """The text, which follows a byte for the compression method."""
    text = _inflated(rest[1:])
    return None if text is None else text.decode("latin-1")


def _international(rest: bytes) -> str | None:
    """The text, which follows the compression flag and method, the language, and the keyword in that language."""
    _language, _, behind = rest[2:].partition(b"\0")
    _keyword, _, content = behind.partition(b"\0")
    text = _inflated(content) if rest[:1] == b"\1" else content
    try:
        return None if text is None else text.decode()
    except UnicodeDecodeError:
        return None


_READERS = {b"tEXt": _plain, b"zTXt": _packed, b"iTXt": _international}


def _inflated(packed: bytes) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, _MOST_TEXT)
    except zlib.error:
        return None
    return text if unpacker.eof else None


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to the end, or to where the file is cut off: a piece of a needed chunk is included."""
    view, position = memoryview(data), len(SIGNATURE)
    for _ in parts():
        if position + 8 > len(data):
            return
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
    """Whether the pixels need a chunk: those whose type begins with a capital letter, and the transparent colour."""
    return kind == b"tRNS" or not kind[0] & _ANCILLARY
