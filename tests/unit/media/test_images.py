import io
import re
import resource
import struct
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from compute.errors import InvalidInput
from compute.media.images import decode_image
from compute.media.loader import open_image

MAX_PIXELS = 1_000_000


def photo(mode: str = "RGB", width: int = 48, height: int = 32) -> Image.Image:
    """A picture whose corners differ, so that a turned one is noticed."""
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    pixels = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def as_file(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    return decode_image(data, max_pixels=max_pixels, field="image_url").image


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


def refusal(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode(data, max_pixels)
    assert caught.value.field == "image_url"
    return caught.value.detail


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1024)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(image_format: str) -> None:
    decoded = decode_image(as_file(photo(), image_format), max_pixels=MAX_PIXELS, field="image")
    assert decoded.format == image_format
    assert distance(decoded.image, photo()) == 0


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "GIF", "AVIF"])
def test_lossy_formats_are_read(image_format: str) -> None:
    image = decode(as_file(photo(), image_format))
    assert (image.mode, image.size) == ("RGB", (48, 32))
    assert distance(image, photo()) < 12


def test_pictures_of_phones_with_two_frames_are_read_as_their_first() -> None:
    data = as_file(photo(), "MPO", save_all=True, append_images=[photo().rotate(180)])
    assert distance(decode(data), photo()) < 12


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_a_plain_one(mode: str) -> None:
    image = decode(as_file(photo(mode), "TIFF"))
    expected = {"1": "L", "L": "L", "LA": "RGBA", "RGBA": "RGBA"}.get(mode, "RGB")
    assert image.mode == expected
    assert image.info == {}


def test_transparency_of_a_palette_is_kept() -> None:
    image = photo("P")
    corner = image.getpixel((0, 0))
    decoded = decode(as_file(image, "GIF", transparency=corner))
    assert decoded.mode == "RGBA"
    assert decoded.getpixel((0, 0))[3] == 0
    assert decoded.getpixel((47, 31))[3] == 255


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(np.uint16))
    values = np.asarray(decode(as_file(deep, "PNG")))
    assert values.dtype == np.uint8
    assert (values.min(), values.max()) == (0, 255)
    assert abs(float(values.mean()) - 127.5) < 2


def test_floating_point_pixels_are_refused() -> None:
    assert "pixels of type F" in refusal(as_file(photo("F"), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = photo().transpose(undo[orientation]) if orientation > 1 else photo()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = decode(as_file(stored, "PNG", exif=exif))
    assert image.size == (48, 32)
    assert distance(image, photo()) == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    data = as_file(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff")
    assert distance(decode(data), photo()) < 12


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green primaries have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_colour_profile_is_applied_and_dropped(mode: str) -> None:
    red = Image.new(mode, (8, 8), (255, 0, 0))
    image = decode(as_file(red, "PNG", icc_profile=swapped_profile()))
    assert image.mode == mode
    assert image.info == {}
    first, second = image.getpixel((0, 0))[:2]
    assert first < 40
    assert second > 215


@pytest.mark.parametrize("profile", [b"nonsense", swapped_profile()[:200]])
def test_a_broken_colour_profile_is_ignored(profile: bytes) -> None:
    assert distance(decode(as_file(photo(), "PNG", icc_profile=profile)), photo()) == 0


def test_a_profile_for_other_channels_is_ignored() -> None:
    data = as_file(photo("L"), "TIFF", icc_profile=swapped_profile())
    assert distance(decode(data), photo("L")) == 0


def test_a_huge_png_is_refused_by_its_header() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "too many pixels" in refusal(png_claiming(30_000, 30_000), max_pixels=2_000_000_000)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 50_000


def test_pillows_softer_limit_refuses_too() -> None:
    assert "too many pixels" in refusal(png_claiming(10_000, 10_000), max_pixels=2_000_000_000)


def test_warnings_of_bombs_are_refusals_in_any_thread() -> None:
    details: list[str] = []
    thread = threading.Thread(target=lambda: details.append(refusal(png_claiming(10_000, 10_000), 10**9)))
    thread.start()
    thread.join()
    assert details == ["The image has too many pixels."]


def test_the_pixel_limit_is_exact() -> None:
    data = as_file(photo(), "PNG")
    assert decode(data, max_pixels=48 * 32).size == (48, 32)
    assert "48 x 32" in refusal(data, max_pixels=48 * 32 - 1)


def test_the_limit_counts_a_gif_whose_frame_outgrows_its_screen() -> None:
    data = bytearray(as_file(photo("P"), "GIF"))
    data[6:10] = struct.pack("<HH", 1, 1)
    assert "48 x 32" in refusal(bytes(data), max_pixels=1000)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_refused(image_format: str, share: float) -> None:
    noise = np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = as_file(Image.fromarray(noise), image_format)
    assert re.match("The image is damaged|Not an image", refusal(data[: int(len(data) * share)]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, world",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert "Not an image" in refusal(data)


@pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA", "PCX", "SGI", "DDS", "JPEG2000", "PDF"])
def test_formats_that_nobody_asked_for_are_refused(image_format: str) -> None:
    assert "Not an image" in refusal(as_file(photo(), image_format))


@settings(max_examples=150)
@given(
    image_format=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    edits=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_are_decoded_or_refused_and_never_crash(image_format: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(as_file(photo(), image_format))
    for position, value in edits:
        data[position % len(data)] = value
    try:
        image = decode(bytes(data))
    except InvalidInput:
        return
    assert image.width * image.height <= MAX_PIXELS


def test_open_image_reads_what_is_stored() -> None:
    assert distance(open_image(as_file(photo(), "PNG"), max_pixels=MAX_PIXELS), photo()) == 0
