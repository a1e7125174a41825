"""Files of countless tiny parts take work and memory in proportion to their size, whether they are read or refused."""

import io
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest
from PIL import Image

from compute.errors import InvalidInput
from compute.media.images import decode_cost, decode_image
from tests.unit.media.stated import as_file, chunk, patches, png

SIZE = 2 * 2**20
"""Bytes of each file, about."""
MOST_CALLS = 4_000_000
"""What 100,000 parts come to, read a few times over. Without a bound it is tens of millions, or has no end."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning"),
    pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning"),
    pytest.mark.filterwarnings("ignore:Possibly corrupt EXIF data:UserWarning"),
    pytest.mark.filterwarnings("ignore:Tag data larger than file:UserWarning"),
]

COLOURS = patches()


def filled(part: bytes) -> bytes:
    return part * (SIZE // len(part))


def in_jpeg(more: bytes) -> bytes:
    data = as_file(COLOURS, "JPEG")
    return data[:2] + more + data[2:]


def in_webp(more: bytes) -> bytes:
    data = as_file(COLOURS, "WEBP", lossless=True)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + (31).to_bytes(3, "little") * 2
    body = b"WEBP" + extended + more + data[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def in_gif(more: bytes) -> bytes:
    data = as_file(COLOURS, "GIF")
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    return data[:place] + more + data[place:]


def in_avif(before: bytes) -> bytes:
    return as_file(COLOURS, "AVIF") + struct.pack(">I", len(before) + 8) + b"free" + before


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def many_associations() -> bytes:
    """Each box tells the properties of other items."""
    many = box(b"ipma", bytes(4) + struct.pack(">I", 20_000) + b"\0\7\0" * 20_000)
    meta = box(b"meta", bytes(4) + box(b"pitm", bytes(4) + b"\0\1") + box(b"iprp", box(b"ipco", b"") + filled(many)))
    return as_file(COLOURS, "AVIF")[:32] + meta


Entry = tuple[int, int, int, int]


def directory(entries: list[Entry], following: int = 0) -> bytes:
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def plain_page(*more: Entry, strips: Entry = (273, 4, 1, 8)) -> list[Entry]:
    """Of 8 x 8 grey pixels, without compression."""
    fixed = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), strips, (278, 3, 1, 1)]
    return sorted([*fixed, (279, 4, 1, 64), *more])


def plain_tiff(*more: Entry, strips: Entry = (273, 4, 1, 8), behind: bytes = b"") -> bytes:
    """Its pixels lie at 8, then comes its page, and at 1024 what is `behind`."""
    page = directory(plain_page(*more, strips=strips))
    return (b"II*\0" + struct.pack("<I", 72) + bytes(64) + page).ljust(1024, b"\0") + behind


def the_same_page_below_all_pages() -> bytes:
    """50 KB: a hundred pages, each with a hundred references to one of thousands of tags."""
    fillers = [(60_000 + number % 5000, 3, 1, 1) for number in range(4000)]
    below = directory(sorted([*fillers, (256, 3, 1, 8), (257, 3, 1, 8)]))
    references = struct.pack("<I", 8) * 100
    start = 8 + len(below) + len(references)
    pages, size = b"", len(directory([(0, 0, 0, 0)] * 4))
    for number in range(100):
        following = start + (number + 1) * size if number < 99 else 0
        entries = [(254, 4, 1, 1), (256, 3, 1, 8), (257, 3, 1, 8), (330, 4, 100, 8 + len(below))]
        pages += directory(entries, following)
    return b"II*\0" + struct.pack("<I", start) + below + references + pages


def big_tiff_of_tags() -> bytes:
    tags = b"".join(struct.pack("<HHQQ", number % 65536, 3, 1, 1) for number in range(SIZE // 20))
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", SIZE // 20) + tags


PNG = as_file(COLOURS, "PNG")
RATIONALS = filled(struct.pack("<II", 1, 3))
FILES: dict[str, Callable[[], bytes]] = {
    "PNG, empty pixels": lambda: PNG[:33] + filled(chunk(b"IDAT", b"")) + PNG[33:],
    "PNG, critical chunks": lambda: png(COLOURS, filled(chunk(b"ABCD", b""))),
    "PNG, private chunks": lambda: png(COLOURS, filled(chunk(b"abCD", b""))),
    "PNG, its owner": lambda: png(COLOURS, filled(chunk(b"zTXt", b"Copyright\0\0" + zlib.compress(bytes(2**20))))),
    "PNG, EXIF": lambda: png(COLOURS, chunk(b"eXIf", b"II*\0\x08\0\0\0" + directory(bulky()) + RATIONALS)),
    "JPEG, empty segments": lambda: in_jpeg(filled(b"\xff\xdb\0\2")),
    "JPEG, comments": lambda: in_jpeg(filled(b"\xff\xfe\0\2")),
    "JPEG, EXIF": lambda: in_jpeg(filled(b"\xff\xe1\0\x0aExif\0\0II")),
    "JPEG, profiles": lambda: in_jpeg(filled(b"\xff\xe2\0\x14ICC_PROFILE\0\1\1abcd")),
    "JPEG, fill bytes": lambda: in_jpeg(filled(b"\xff")),
    "JPEG, markers alone": lambda: in_jpeg(filled(b"\xff\x01")),
    "JPEG, bytes of nothing": lambda: in_jpeg(filled(b"\0\xff\x01")),
    "WEBP, EXIF": lambda: in_webp(filled(b"EXIF" + bytes(4))),
    "WEBP, unknown": lambda: in_webp(filled(b"abcd" + bytes(4))),
    "GIF, a comment in pieces": lambda: in_gif(b"!\xfe" + filled(b"\1a") + b"\0"),
    "GIF, comments": lambda: in_gif(filled(b"!\xfe\0")),
    "GIF, an extension in pieces": lambda: in_gif(b"!\xff" + filled(b"\1a") + b"\0"),
    "GIF, controls": lambda: in_gif(filled(b"!\xf9\4\0\0\0\0\0")),
    "GIF, bytes of nothing": lambda: in_gif(filled(b"\7")),
    "AVIF, items": lambda: in_avif(filled(b"infe"))[:-7],
    "AVIF, associations": many_associations,
    "TIFF, pages below": the_same_page_below_all_pages,
    "TIFF, tags": big_tiff_of_tags,
    "TIFF, strips": lambda: plain_tiff(strips=(273, 4, SIZE // 4, 1024), behind=filled(struct.pack("<I", 8))),
    "TIFF, an orientation of many numbers": lambda: plain_tiff((274, 5, SIZE // 8, 1024), behind=RATIONALS),
    "TIFF, EXIF": lambda: plain_tiff((34665, 4, 1, 1024), behind=directory(bulky(1024)) + RATIONALS),
}


def bulky(start: int = 8) -> list[Entry]:
    return [(0x9201, 5, SIZE // 8, start + len(directory([(0, 0, 0, 0)])))]


def calls_of(work: Callable[[], object]) -> int:
    """How many functions it calls, in Python and from it."""
    count = 0

    def profile(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}
        if count > MOST_CALLS:
            raise AssertionError(f"more than {MOST_CALLS} calls")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def read(data: bytes) -> str | None:
    """Why it is refused, if it is."""
    try:
        decode_cost(data, max_pixels=1_000_000, field="image")
        decode_image(data, max_pixels=1_000_000, field="image")
    except InvalidInput as error:
        return error.detail
    return None


@pytest.mark.parametrize("name", FILES)
def test_reading_takes_calls_in_proportion(name: str) -> None:
    data = FILES[name]()
    assert calls_of(lambda: read(data)) < MOST_CALLS


@pytest.mark.parametrize("name", FILES)
def test_reading_takes_memory_in_proportion(name: str) -> None:
    data = FILES[name]()
    tracemalloc.start()
    read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data) + 32 * 2**20


REFUSED = [
    "GIF, a comment in pieces",
    "JPEG, empty segments",
    "PNG, empty pixels",
    "TIFF, tags",
    "TIFF, strips",
    "TIFF, an orientation of many numbers",
]
READ = ["PNG, EXIF", "PNG, its owner", "JPEG, profiles", "JPEG, fill bytes", "AVIF, items", "TIFF, EXIF"]


@pytest.mark.parametrize("name", REFUSED)
def test_countless_parts_are_refused_in_words(name: str) -> None:
    assert "more than 100000 chunks" in (read(FILES[name]()) or "")


@pytest.mark.parametrize("name", READ)
def test_what_is_only_beside_the_picture_does_not_spoil_it(name: str) -> None:
    assert read(FILES[name]()) is None


def test_a_gif_keeps_its_transparency_and_no_comment() -> None:
    picture = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", transparency=1, comment=b"c" * 9000)
    assert decode_image(buffer.getvalue(), max_pixels=100, field="image").image.mode == "RGBA"
