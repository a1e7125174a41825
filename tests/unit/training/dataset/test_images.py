import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from compute.training.dataset.images import Rejected, check_image

MAX_BYTES = 2**20
MAX_PIXELS = 1_000_000


def as_file(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def check(data: bytes, **options: Any) -> Image.Image | Rejected:
    return check_image(data, "looks/a.png", max_bytes=MAX_BYTES, max_pixels=MAX_PIXELS, **options)


def taken(data: bytes, **options: Any) -> Image.Image:
    found = check(data, **options)
    assert isinstance(found, Image.Image)
    return found


def reason(data: bytes) -> str:
    found = check(data)
    assert isinstance(found, Rejected)
    assert found.file == "looks/a.png"
    return found.reason


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_come_as_rgb(image_format: str, mode: str) -> None:
    image = taken(as_file(Image.new(mode, (48, 32), "white"), image_format))
    assert (image.mode, image.size) == ("RGB", (48, 32))
    assert np.asarray(image).min() > 250


def test_a_picture_from_a_phone_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert taken(as_file(Image.new("RGB", (64, 40)), "JPEG", exif=exif)).size == (40, 64)


def half_transparent() -> Image.Image:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    return image


def test_transparent_pictures_are_put_on_white() -> None:
    image = taken(as_file(half_transparent()))
    assert image.mode == "RGB"
    assert image.getpixel((10, 10)) == (255, 255, 255)
    assert image.getpixel((50, 10)) == (255, 0, 0)


def test_a_palette_with_transparency_is_put_on_white_too() -> None:
    palette = half_transparent().convert("P")
    image = taken(as_file(half_transparent().quantize(4), "GIF", transparency=palette.getpixel((10, 10))))
    assert image.mode == "RGB"


def test_transparency_is_kept_on_request() -> None:
    assert taken(as_file(half_transparent()), keep_alpha=True).mode == "RGBA"
    assert taken(as_file(Image.new("RGB", (40, 40))), keep_alpha=True).mode == "RGB"


@pytest.mark.parametrize("size", [(31, 400), (400, 31), (1, 1)])
def test_pictures_that_are_too_small(size: tuple[int, int]) -> None:
    assert reason(as_file(Image.new("RGB", size))) == f"too small: {size[0]} x {size[1]} pixels; a side has at least 32"


def test_the_smallest_picture_that_is_taken() -> None:
    assert taken(as_file(Image.new("RGB", (32, 32)))).size == (32, 32)


def test_files_that_are_no_pictures_say_why() -> None:
    assert reason(b"") == "the file is empty"
    assert "Not an image in an accepted format" in reason(b"plain text, whatever its name says")
    assert "at most 1048576" in reason(bytes(MAX_BYTES + 1))
    assert "at most 1000000 pixels" in reason(as_file(Image.new("L", (1001, 1000))))
    whole = as_file(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    assert reason(whole[: len(whole) // 2]) == "The image is damaged or incomplete."
