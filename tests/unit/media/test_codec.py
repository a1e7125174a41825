import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from compute.media.codec import CONTENT_TYPES, ImageFormat, encode

FORMATS: list[ImageFormat] = ["png", "jpeg", "webp"]


def photo(mode: str = "RGB") -> Image.Image:
    across = np.linspace(0, 255, 64)[None, :].repeat(48, 0)
    pixels = np.stack([across, across[:, ::-1], across / 2], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def reopen(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_picture_survives(image_format: ImageFormat) -> None:
    data = encode(photo(), image_format)
    image = reopen(data)
    assert CONTENT_TYPES[image_format] == f"image/{image_format}"
    assert image.format == image_format.upper()
    difference = np.abs(np.asarray(image, np.int16) - np.asarray(photo(), np.int16))
    assert difference.mean() <= (0 if image_format == "png" else 2)


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_same_input_gives_the_same_bytes(image_format: ImageFormat) -> None:
    one = encode(photo(), image_format, metadata={"seed": "7", "model": "tiny"})
    other = encode(photo(), image_format, metadata={"model": "tiny", "seed": "7"})
    assert one == other


def test_png_carries_metadata_as_text() -> None:
    metadata = {"model": "flux", "prompt": "ein Bär 🐻"}
    data = encode(photo(), "png", metadata=metadata)
    image = reopen(data)
    assert {key: str(value) for key, value in image.info.items()} == metadata


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_the_others_carry_metadata_in_exif(image_format: ImageFormat) -> None:
    data = encode(photo(), image_format, metadata={"prompt": "ein Bär"})
    description = reopen(data).getexif()[ExifTags.Base.ImageDescription]
    assert json.loads(description) == {"prompt": "ein Bär"}


@pytest.mark.parametrize("image_format", FORMATS)
def test_what_the_image_carries_itself_stays_out(image_format: ImageFormat) -> None:
    image = photo()
    image.info = {"comment": b"secret", "icc_profile": b"secret profile", "exif": b"Exif\0\0secret", "dpi": (300, 300)}
    data = encode(image, image_format)
    assert data == encode(photo(), image_format)
    assert image.info["comment"] == b"secret"


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_alpha_is_kept_where_it_can_be(image_format: ImageFormat) -> None:
    image = photo("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    again = reopen(encode(image, image_format))
    assert again.mode == "RGBA"
    assert again.getchannel("A").getextrema() == image.getchannel("A").getextrema()


def test_jpeg_shows_transparency_as_white() -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    assert reopen(encode(image, "jpeg")).getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "RGBX"])
@pytest.mark.parametrize("image_format", FORMATS)
def test_any_mode_can_be_encoded(mode: str, image_format: ImageFormat) -> None:
    image = photo("L").convert(mode) if mode in {"1", "LA"} else photo(mode)
    assert reopen(encode(image, image_format)).size == (64, 48)
