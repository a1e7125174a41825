"""AVIF: reads the colour codes of its container, and removes EXIF that no decoder could read.

ftyp | meta: pitm (the image's item), iinf (items), iprp: ipco (properties), ipma (which item has which) | mdat
"""

import io
import struct
from collections.abc import Iterator, Sequence

from compute.media.formats.parts import parts

__all__ = ["is_avif", "stated_codes", "without_metadata"]

_BRANDS = (b"avif", b"avis")
_MOST_BOXES = 1000
_MOST_ITEMS = 1000
_CODES = struct.Struct(">HHHB")

Box = tuple[bytes, memoryview]


def is_avif(data: bytes) -> bool:
    """Whether the type box lists one of AVIF's brands."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 1024)
    return any(data[offset : offset + 4] in _BRANDS for offset in range(8, end, 4))


def stated_codes(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer characteristics (ITU-T H.273) of the image; None if the container names none."""
    try:
        top = list(_boxes(memoryview(data)))
        stated = _of_item(top) or _of_track(top)
    except (struct.error, IndexError):
        return None
    return stated


def without_metadata(data: bytes) -> io.BytesIO:
    """The file with EXIF and XMP items marked as a type that no decoder reads; all offsets stay as they are."""
    patched = io.BytesIO(data)
    for offset in _item_types(data):
        if data[offset : offset + 4] in {b"Exif", b"mime"}:
            patched.seek(offset)
            patched.write(b"none")
    patched.seek(0)
    return patched


def _item_types(data: bytes) -> Iterator[int]:
    """Yield the offsets of the items' types."""
    offset = data.find(b"infe")
    for _ in parts():
        if offset < 0:
            return
        version = data[offset + 4] if offset + 4 < len(data) else 0
        # Version, flags, the item's number (of four bytes from version 3 on) and its protection come before it.
        yield offset + 8 + (4 if version >= 3 else 2) + 2
        offset = data.find(b"infe", offset + 4)


def _of_item(top: Sequence[Box]) -> tuple[int, int] | None:
    meta = _inside(top, b"meta", skip=4)
    properties = _inside(meta, b"iprp")
    listed = _inside(properties, b"ipco")
    item = _primary(meta)
    for kind, body in properties:
        if kind == b"ipma":
            for index in _associated(body, item):
                if 0 < index <= len(listed) and (codes := _codes(listed[index - 1])):
                    return codes
    return None


def _of_track(top: Sequence[Box]) -> tuple[int, int] | None:
    """The codes of the track: a sequence of images may state its colours there alone."""
    for kind, body in _inside(top, b"moov"):
        if kind == b"trak":
            media = _inside(_inside(_inside(list(_boxes(body)), b"mdia"), b"minf"), b"stbl")
            # The sample entries follow version, flags and count, each with 78 bytes of a video's header.
            for entry, content in _inside(media, b"stsd", skip=8):
                if entry == b"av01":
                    return next((codes for box in _boxes(content[78:]) if (codes := _codes(box))), None)
    return None


def _boxes(body: memoryview) -> Iterator[Box]:
    position = count = 0
    while position + 8 <= len(body) and count < _MOST_BOXES:
        size, kind = int.from_bytes(body[position : position + 4], "big"), bytes(body[position + 4 : position + 8])
        start = position + 8
        if size == 1:
            size, start = int.from_bytes(body[position + 8 : position + 16], "big"), position + 16
        end = len(body) if size == 0 else position + size
        if end < start:
            return
        yield kind, body[start:end]
        position, count = end, count + 1


def _inside(boxes: Sequence[Box], kind: bytes, *, skip: int = 0) -> list[Box]:
    found = next((body for name, body in boxes if name == kind), None)
    return [] if found is None else list(_boxes(found[skip:]))


def _primary(meta: Sequence[Box]) -> int:
    body = next((body for kind, body in meta if kind == b"pitm"), None)
    if body is None:
        return 0
    return int.from_bytes(body[4:8] if body[0] else body[4:6], "big")


def _associated(body: memoryview, wanted: int) -> Sequence[int]:
    """The numbers of an item's properties (from 1)."""
    wide_items, wide_properties = body[0] >= 1, bool(body[3] & 1)
    (count,) = struct.unpack(">I", body[4:8])
    position = 8
    for _ in range(min(count, _MOST_ITEMS)):
        width = 4 if wide_items else 2
        item = int.from_bytes(body[position : position + width], "big")
        many, position = body[position + width], position + width + 1
        size = 2 if wide_properties else 1
        if item == wanted:
            # The highest bit says that the property is essential.
            mask = 0x7FFF if wide_properties else 0x7F
            offsets = range(position, position + many * size, size)
            return [int.from_bytes(body[offset : offset + size], "big") & mask for offset in offsets]
        position += many * size
    return ()


def _codes(box: Box) -> tuple[int, int] | None:
    kind, body = box
    if kind != b"colr" or bytes(body[:4]) != b"nclx":
        return None
    primaries, transfer, _matrix, _range = _CODES.unpack(body[4:11])
    return primaries, transfer
