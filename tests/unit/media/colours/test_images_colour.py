"""Colours of photographs, kept from input to output: depth, channels, transparency, profiles, every maker."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from compute.errors import InvalidInput
from compute.media.codec import RIGHTS, ImageFormat, encode
from compute.media.images import DecodedImage, decode_image
from compute.media.loader import MediaLoader, open_image
from compute.media.rights import Rights
from compute.outbound.client import GuardedClient
from compute.settings import Settings
from tests.unit.media.icc import ADOBE_RGB, DISPLAY_P3, SRGB, cmyk_profile, grey_profile, rgb_profile

WHO = Rights("Jörg Müller", "© 2026 Studio Łódź")


def decoded(data: bytes) -> DecodedImage:
    return decode_image(data, max_pixels=1_000_000, field="image")


def decode(data: bytes) -> np.ndarray:
    return np.asarray(decoded(data).image)


def as_file(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_png(values: np.ndarray, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a channel; `values` is (height, width, channels) uint16. Each line has another filter."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    lines = b""
    for number, row in enumerate(rows):
        above = rows[number - 1] if number else np.zeros_like(row)
        filtered = [row, row - np.concatenate([np.zeros(2 * channels, int), row[: -2 * channels]]), row - above]
        lines += bytes([number % 3]) + (filtered[number % 3] % 256).astype(np.uint8).tobytes()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    extra = b"".join(chunk(name, content) for name, content in more)
    data = chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def deep_tiff(values: np.ndarray, order: str, photometric: int, *, bits: int = 16) -> bytes:
    """An uncompressed TIFF of one strip; `values` is (height, width, channels)."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (277, 3, channels)]
    tags += [(273, 4, 0), (278, 4, height), (279, 4, len(pixels))] + (
        [(338, 3, 2)] if channels == 4 and photometric == 2 else []
    )
    start = 8 + 2 + 12 * len(tags) + 4
    depths = struct.pack(f"{order}{channels}H", *[bits] * channels)
    entries = b""
    for tag, kind, value in sorted(tags):
        if tag == 258 and channels > 2:
            entries += struct.pack(f"{order}HHII", tag, kind, channels, start)
        elif kind == 3:
            entries += struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0)
        else:
            entries += struct.pack(f"{order}HHII", tag, kind, 1, start + len(depths) if tag == 273 else value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + depths + pixels


def deep_values(channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (9, 14, channels)).astype(np.uint16)


def nearest(values: np.ndarray) -> np.ndarray:
    return np.floor(values / 257 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_of_a_png_become_the_nearest_of_eight(channels: int) -> None:
    values = deep_values(channels)
    result = decode(deep_png(values))
    if channels == 2:
        assert np.array_equal(result[..., [0, 3]], nearest(values))
        assert np.array_equal(result[..., 0], result[..., 1])
    else:
        assert np.array_equal(result.reshape(values.shape), nearest(values))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 65535), min_size=3, max_size=3))
def test_no_sixteen_bit_value_is_cut_off(values: list[int]) -> None:
    pixel = np.array(values, np.uint16).reshape(1, 1, 3)
    assert np.array_equal(decode(deep_png(pixel)), nearest(pixel))
    assert np.array_equal(decode(deep_png(pixel[..., :1])), nearest(pixel)[..., 0])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("channels", "photometric"), [(1, 1), (3, 2), (4, 2)])
def test_sixteen_bits_of_a_tiff_become_the_nearest_of_eight(order: str, channels: int, photometric: int) -> None:
    values = deep_values(channels)
    result = decode(deep_tiff(values, order, photometric))
    assert np.array_equal(result.reshape(values.shape), nearest(values))


def test_sixteen_bits_of_a_compressed_tiff_become_the_nearest_of_eight() -> None:
    tifffile = pytest.importorskip("tifffile")
    values, buffer = deep_values(3), io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", compression="zlib", predictor=True)
    assert np.array_equal(decode(buffer.getvalue()), nearest(values))


def test_grey_whose_zero_is_white_is_turned_round() -> None:
    values = deep_values(1)
    assert np.array_equal(decode(deep_tiff(values, "<", 0)), nearest(65535 - values)[..., 0])


def test_transparency_of_a_deep_png_is_one_value_of_sixteen_bits() -> None:
    grey = np.array([[[1000], [1001]]], np.uint16)
    assert decode(deep_png(grey, (b"tRNS", struct.pack(">H", 1001))))[0, :, 3].tolist() == [255, 0]
    colours = np.array([[[1000, 2000, 3000], [1000, 2000, 3001]]], np.uint16)
    assert decode(deep_png(colours, (b"tRNS", struct.pack(">3H", 1000, 2000, 3001))))[0, :, 3].tolist() == [255, 0]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_refused_with_advice(mode: str) -> None:
    with pytest.raises(InvalidInput, match="8 or 16 bits") as caught:
        decode(as_file(Image.new(mode, (4, 4)), "TIFF"))
    assert caught.value.field == "image"


def gradient(mode: str) -> Image.Image:
    across = np.linspace(0, 255, 40)[None, :].repeat(30, 0)
    pixels = np.stack([across, across.T[:30, :30].repeat(2, 1)[:, :40], 255 - across], axis=-1)
    image = Image.fromarray(pixels.astype(np.uint8))
    return image.quantize(64, dither=Image.Dither.NONE) if mode == "P" else image.convert(mode)


def in_lab(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


def apart(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one.convert("RGB"), int) - np.asarray(other.convert("RGB"), int)).mean())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "LAB", "YCbCr"])
def test_every_mode_looks_the_same_after_the_way_in_and_out(mode: str) -> None:
    """A TIFF of each mode, taken in, stored as each format, and read again."""
    shown = gradient("RGB")
    image = in_lab(shown) if mode == "LAB" else gradient(mode)
    first = decoded(as_file(image, "TIFF")).image
    assert first.mode in {"L", "RGB", "RGBA"}
    # LAB has steps of whole units; the others are kept to the level.
    difference = apart(first, shown if mode == "LAB" else image)
    assert difference <= (3 if mode == "LAB" else 0)
    for image_format, loss in (("png", 0), ("webp", 6), ("jpeg", 6)):
        again = decoded(encode(first, image_format)).image  # type: ignore[arg-type]
        assert apart(again, first) <= loss


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for image_format in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = as_file(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
        assert decode(data)[0, 0].tolist() == [255, 0, 0]


def linear(coded: np.ndarray) -> np.ndarray:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def coded(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("primaries", "gamma"), [(DISPLAY_P3, None), (ADOBE_RGB, 563 / 256)], ids=["display-p3", "adobe-rgb"]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_wide_gamuts_become_srgb(primaries: Any, gamma: float | None, mode: str) -> None:
    pixels = np.random.default_rng(1).integers(60, 200, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    shares = pixels / 255
    light = linear(shares) if gamma is None else shares**gamma
    wanted = coded(light @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))) * 255
    result = decode(as_file(image, icc_profile=rgb_profile(primaries, gamma)))
    inside = (wanted > 1) & (wanted < 254)
    assert np.abs(result[..., :3] - wanted)[inside].max() <= 2
    assert result.shape[2] == len(mode)


def test_a_wide_gamut_of_sixteen_bits_and_a_palette_are_converted_too() -> None:
    profile = rgb_profile(DISPLAY_P3, None)
    plain = decode(as_file(Image.new("RGB", (2, 2), (200, 100, 50)), icc_profile=profile))
    deep = np.full((2, 2, 3), (200 * 257, 100 * 257, 50 * 257), np.uint16)
    compressed = zlib.compress(profile)
    assert np.array_equal(decode(deep_png(deep, (b"iCCP", b"p\0\0" + compressed))), plain)
    palette = Image.new("RGB", (2, 2), (200, 100, 50)).quantize(2)
    assert np.array_equal(decode(as_file(palette, icc_profile=profile)), plain)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_is_applied_and_grey_stays_grey(mode: str) -> None:
    image = Image.new("L", (4, 4), 128).convert(mode)
    result = decoded(as_file(image, icc_profile=grey_profile(1.0))).image
    assert result.mode == {"L": "L", "LA": "RGBA"}[mode]
    # Half of the light is 188 in sRGB.
    assert abs(np.asarray(result).reshape(16, -1)[0, 0] - 188) <= 1


def test_grey_of_sixteen_bits_has_a_profile_too() -> None:
    deep = np.full((2, 2, 1), 128 * 257, np.uint16)
    result = decode(deep_png(deep, (b"iCCP", b"p\0\0" + zlib.compress(grey_profile(1.0)))))
    assert abs(int(result[0, 0]) - 188) <= 1


def test_cmyk_is_what_its_profile_says_and_inks_without_one() -> None:
    image = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    green = decode(as_file(image, "TIFF", icc_profile=cmyk_profile((60.0, -60.0, 40.0))))[0, 0]
    assert green[1] > green[0] + 60
    assert green[1] > green[2] + 60
    assert decode(as_file(image, "TIFF"))[0, 0].tolist() == [0, 255, 255]


def test_a_profile_that_is_srgb_by_another_name_changes_nothing() -> None:
    image = gradient("RGB")
    assert np.array_equal(decode(as_file(image, icc_profile=rgb_profile(SRGB, None))), np.asarray(image))


def with_rights(image_format: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = WHO.artist.encode() if WHO.artist else b""
    exif[ExifTags.Base.Copyright] = WHO.copyright.encode() if WHO.copyright else b""
    exif[ExifTags.Base.Make] = "Camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return as_file(gradient("RGB"), image_format, exif=exif)


async def stored(data: bytes, policy: str, *, keep_format: bool) -> bytes:
    loader = MediaLoader(Settings(metadata_policy=policy), GuardedClient())  # type: ignore[arg-type]
    return (await loader.normalise(data, field="file", keep_format=keep_format)).data


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("keep_format", [True, False])
async def test_the_policy_decides_whether_rights_are_stored(image_format: str, keep_format: bool) -> None:
    data = with_rights(image_format)
    bare = await stored(data, "strip", keep_format=keep_format)
    assert not len(Image.open(io.BytesIO(bare)).getexif())
    kept = await stored(data, "keep-rights", keep_format=keep_format)
    exif = Image.open(io.BytesIO(kept)).getexif()
    assert set(exif) == {ExifTags.Base.Artist, ExifTags.Base.Copyright}
    assert b"Camera" not in kept
    assert open_image(kept, max_pixels=10**6).info == {RIGHTS: WHO}
    assert kept == await stored(data, "keep-rights", keep_format=keep_format)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_rights_go_from_a_stored_image_into_its_copies(image_format: ImageFormat) -> None:
    image = open_image(with_rights("PNG"), max_pixels=10**6)
    copy = image.crop((2, 2, 20, 20)).convert("L")
    assert decoded(encode(copy, image_format)).rights == WHO


def test_rights_of_a_png_may_be_text() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Author", "Ann\nSmith 🐻")
    text.add_text("Copyright", "© Ann")
    assert decoded(as_file(gradient("RGB"), pnginfo=text)).rights == Rights("Ann Smith 🐻", "© Ann")


def test_rights_are_one_short_line_and_broken_ones_are_none() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = b"A\x00B\r\n" + b"x" * 5000
    rights = decoded(as_file(gradient("RGB"), exif=exif)).rights
    assert rights is not None
    assert rights.artist is not None
    assert len(rights.artist) <= 500
    assert rights.artist.isprintable()
    assert decoded(as_file(gradient("RGB"))).rights is None


def test_a_file_cannot_pose_as_rights_of_ours() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text(RIGHTS, "Mallory")
    image = open_image(as_file(gradient("RGB"), pnginfo=text), max_pixels=10**6)
    assert image.info == {}
    image.info[RIGHTS] = "Mallory"
    assert b"Mallory" not in encode(image, "png")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!doctype html><img src=x>",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        b"GIF89a/*\x00\x00*/=1;alert(1)",
        b"RIFF\x24\x00\x00\x00WEBPjunk",
        b"II*\x00\xff\xff\xff\xff",
        b"BM" + bytes(60),
    ],
)
def test_what_only_pretends_to_be_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(data)
    assert caught.value.field == "image"


def test_what_hangs_on_behind_an_image_does_not_get_in() -> None:
    script = b"<script>alert(1)</script>"
    for image_format in ("PNG", "JPEG", "GIF"):
        image = decoded(as_file(gradient("RGB"), image_format) + script).image
        assert script not in encode(image, "png")


def test_a_deep_image_that_breaks_off_is_refused() -> None:
    data = deep_png(deep_values(3))
    with pytest.raises(InvalidInput, match="damaged"):
        decode(data[: len(data) * 2 // 3])
