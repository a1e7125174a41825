"""Of a file with several pictures, the one that it is about."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from compute.errors import InvalidInput
from compute.media.images import decode_image
from tests.unit.media.stated import as_file

Page = dict[str, Any]
REDUCED, MASK = 1, 2
"""tifffile writes no masks of colours: what it marks as 2 is marked as 4 afterwards."""


def picture(width: int, height: int, dtype: type = np.uint8) -> np.ndarray:
    levels = np.random.default_rng(width).integers(0, np.iinfo(dtype).max, (height, width, 3))
    return levels.astype(dtype)


def tiff(*pages: tuple[np.ndarray, Page], big: bool = False, order: str = "<") -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big, byteorder=order) as writer:
        for pixels, options in pages:
            writer.write(pixels, photometric="rgb", metadata=None, **options)
    data = buffer.getvalue()
    for kind in ("HHQQ", "HHII"):
        data = data.replace(struct.pack(f"{order}{kind}", 254, 4, 1, 2), struct.pack(f"{order}{kind}", 254, 4, 1, 4))
    return data


def decode(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, max_pixels=1_000_000, field="image").image)


SMALL, LARGE = picture(32, 24), picture(128, 96)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize(
    "pages",
    [
        [(SMALL, {"subfiletype": REDUCED}), (LARGE, {})],
        [(SMALL, {}), (LARGE, {})],
        [(LARGE, {}), (SMALL, {"subfiletype": REDUCED})],
        [(LARGE, {}), (SMALL, {})],
        [(picture(128, 96), {"subfiletype": MASK}), (SMALL, {"subfiletype": REDUCED}), (LARGE, {})],
        [(SMALL, {}), (picture(64, 48), {}), (LARGE, {}), (picture(256, 192), {"subfiletype": MASK})],
        [(SMALL, {"subfiletype": REDUCED, "subifds": 1}), (LARGE, {})],
        [(LARGE, {"subifds": 1}), (SMALL, {"subfiletype": REDUCED})],
        [(SMALL, {"subfiletype": REDUCED}), (LARGE, {"subfiletype": REDUCED})],
        [(LARGE, {"subfiletype": REDUCED})],
    ],
    ids=[
        "marked",
        "unmarked",
        "behind",
        "behind, unmarked",
        "mask first",
        "largest",
        "below",
        "pyramid",
        "all marked",
        "alone",
    ],
)
def test_the_picture_of_a_tiff(pages: list[tuple[np.ndarray, Page]], big: bool, order: str) -> None:
    assert np.array_equal(decode(tiff(*pages, big=big, order=order)), LARGE)


def test_pages_of_other_shapes_are_not_copies() -> None:
    first = picture(40, 40)
    assert np.array_equal(decode(tiff((first, {}), (LARGE, {}))), first)
    assert np.array_equal(decode(tiff((picture(100, 75), {}), (LARGE, {}))), picture(100, 75))


def test_sixteen_bits_behind_a_thumbnail_are_read_to_the_last_bit() -> None:
    deep = picture(128, 96, np.uint16)
    expected = np.floor(deep / 257 + 0.5).astype(np.uint8)
    assert np.array_equal(decode(tiff((SMALL, {"subfiletype": REDUCED}), (deep, {}))), expected)


def test_nothing_but_masks_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="only masks"):
        decode(tiff((SMALL, {"subfiletype": MASK}), (LARGE, {"subfiletype": MASK})))


def test_the_limit_counts_the_picture_and_not_its_thumbnail() -> None:
    data = tiff((SMALL, {"subfiletype": REDUCED}), (LARGE, {}))
    with pytest.raises(InvalidInput, match="128 x 96"):
        decode_image(data, max_pixels=1000, field="image")


def test_a_chain_of_pages_that_never_ends() -> None:
    data = bytearray(tiff((LARGE, {})))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for following in (start, 3, 0xFFFFFFF0):
        struct.pack_into("<I", data, start + 2 + 12 * count, following)
        assert np.array_equal(decode(bytes(data)), LARGE)


@pytest.mark.parametrize("following", [2**63, 2**64 - 1, 2**31])
def test_a_chain_that_leads_out_of_a_large_file(following: int) -> None:
    data = bytearray(tiff((LARGE, {}), big=True))
    (start,) = struct.unpack_from("<Q", data, 8)
    (count,) = struct.unpack_from("<Q", data, start)
    struct.pack_into("<Q", data, start + 8 + 20 * count, following)
    assert np.array_equal(decode(bytes(data)), LARGE)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF", "MPO"])
def test_the_first_picture_of_the_others(image_format: str) -> None:
    # Grey levels that every one of these formats keeps.
    first, second = (np.full((24, 32, 3), level, np.uint8) for level in (64, 192))
    data = as_file(first, image_format, save_all=True, append_images=[Image.fromarray(second)])
    assert np.abs(decode(data).astype(int) - 64).max() <= 2
