"""Broken or endless data beside the pixels: thrown away anyway. Broken pixels are refused."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from compute.errors import InvalidInput
from compute.media.images import decode_image
from tests.unit.media.stated import as_file, chunk, patches, png

COLOURS = patches()

pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning"),
    pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning"),
    pytest.mark.filterwarnings("ignore:Tag data larger than file:UserWarning"),
]


def decode(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, max_pixels=1_000_000, field="image").image)


def assert_reads(data: bytes, whole: bytes) -> None:
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(whole)).convert("RGB")))


PNG = png(COLOURS)
CHUNKS = {
    "3 MB of zTXt": chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 3_200_000)),
    "80 MB of iTXt": chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"a" * 80_000_000)),
    "an owner of 80 MB": chunk(b"iTXt", b"Copyright\0\1\0\0\0" + zlib.compress(b"a" * 80_000_000)),
    "an author of 3 MB": chunk(b"zTXt", b"Author\0\0" + zlib.compress(b"a" * 3_200_000)),
    "text with a wrong checksum": chunk(b"tEXt", b"k\0v")[:-1] + b"!",
    "text that is not UTF-8": chunk(b"iTXt", b"Author\0\0\0\0\0\xff\xfe"),
    "text that is not deflated": chunk(b"iTXt", b"Author\0\1\0\0\0no zlib"),
    "no EXIF": chunk(b"eXIf", b"garbage"),
    "short pHYs": chunk(b"pHYs", b"1"),
    "short gAMA": chunk(b"gAMA", b"1"),
    "short cHRM": chunk(b"cHRM", b"12"),
    "empty sRGB": chunk(b"sRGB", b""),
    "cICP of other length": chunk(b"cICP", b"12345"),
    "no profile": chunk(b"iCCP", b"x"),
    "50 MB of profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(50_000_000))),
    "short acTL": chunk(b"acTL", b"1"),
    "short fcTL": chunk(b"fcTL", b"1"),
    "a private chunk": chunk(b"prVt", bytes(100)),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_of_a_png(name: str) -> None:
    assert_reads(png(COLOURS, CHUNKS[name]), PNG)
    assert_reads(PNG[:-12] + CHUNKS[name] + PNG[-12:], PNG)


def test_a_bomb_in_a_png_is_never_unpacked() -> None:
    data = png(COLOURS, CHUNKS["80 MB of iTXt"], CHUNKS["50 MB of profile"])
    tracemalloc.start()
    decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("end", [0, 6, 12, 14])
def test_a_png_without_its_end(end: int) -> None:
    assert_reads(PNG[: len(PNG) - end], PNG)


def test_a_png_cut_off_within_a_text_behind_its_pixels() -> None:
    assert_reads(PNG[:-12] + struct.pack(">I", 9999) + b"tEXtabc", PNG)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


SEGMENTS = {
    "short JFIF": segment(0xE0, b"JFIF"),
    "no EXIF": segment(0xE1, b"Exif\0\0garbage"),
    "EXIF that is cut off": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff"),
    "no XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff<"),
    "short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "one part of five": segment(0xE2, b"ICC_PROFILE\0\5\2abc"),
    "no MPF": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
    "broken Photoshop": segment(0xED, b"Photoshop 3.0\0008BIM\3\xed\0\0\0\0\0\1a"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "long comment": segment(0xFE, bytes(60_000)),
    "bytes of nothing": b"abc",
    "fill bytes": b"\xff\xff\xff",
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments_of_a_jpeg(name: str) -> None:
    data = as_file(COLOURS, "JPEG", quality=95)
    for place in (2, 20):
        assert_reads(data[:place] + SEGMENTS[name] + data[place:], data)


def test_chunks_of_a_webp() -> None:
    data = as_file(COLOURS, "WEBP", lossless=True)
    extended = _riff(b"VP8X", bytes([12, 0, 0, 0]) + (63).to_bytes(3, "little") * 2)
    for before, behind in [
        (b"", _riff(b"EXIF", b"garbage")),
        (b"", _riff(b"EXIF", b"")),
        (b"", _riff(b"XMP ", b"\xff\xff")),
        (b"", b"EXIF" + struct.pack("<I", 9999) + b"abc"),
        (_riff(b"ICCP", b"bad"), b""),
        (_riff(b"abcd", b"1"), b"EXIF"),
    ]:
        body = b"WEBP" + extended + before + data[12:] + behind
        assert_reads(b"RIFF" + struct.pack("<I", len(body)) + body, data)
    assert_reads(b"RIFF" + struct.pack("<I", 7) + data[8:] + bytes(100), data)


def _riff(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def test_exif_and_profile_of_an_avif() -> None:
    plain = as_file(COLOURS, "AVIF", quality=90)
    data = as_file(COLOURS, "AVIF", quality=90, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    exif = data.index(b"MM\0*")
    for start in (exif - 10, exif - 6, exif):
        assert_reads(data[:start] + b"\xff" * (exif + 4 - start) + data[exif + 4 :], plain)
    assert_reads(as_file(COLOURS, "AVIF", quality=90, icc_profile=b"garbage"), plain)


@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"),
    [
        (65000, 7, 10, 0xFFFFFFF0),
        (65000, 7, 2**31 - 1, 8),
        (65000, 99, 1, 0),
        (65000, 2, 5_000_000, 8),
        (65000, 13, 1, 0),
        (274, 3, 1, 77),
        (282, 5, 1, 0xFFFFFFF0),
        (305, 2, 4000, 0xFFFFFF00),
        (306, 2, 20, 0xFFFFFFF0),
        (318, 5, 2, 0xFFFFFFF0),
        (319, 2, 4, 0x41414141),
        (330, 4, 50, 0xFFFFFFF0),
        (700, 1, 2**31, 8),
        (34665, 4, 1, 3),
        (34675, 7, 2**31 - 1, 8),
        (37724, 7, 100, 0xFFFFFF00),
    ],
)
def test_tags_of_a_tiff(tag: int, kind: int, count: int, value: int) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, COLOURS, photometric="rgb", extratags=[(65001, 7, 10, bytes(10), True)])
    data = buffer.getvalue()
    place = data.index(struct.pack("<HH", 65001, 7))
    broken = data[:place] + struct.pack("<HHII", tag, kind, count, value) + data[place + 12 :]
    assert_reads(broken, as_file(COLOURS, "PNG"))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_what_lies_behind_the_file(image_format: str) -> None:
    data = as_file(COLOURS, image_format)
    assert_reads(data + b"more" * 100, data)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_pixels_that_are_cut_off_stay_refused(image_format: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = as_file(noise, image_format)
    for lost in (40, 200, len(data) // 2):
        with pytest.raises(InvalidInput):
            decode(data[:-lost])
