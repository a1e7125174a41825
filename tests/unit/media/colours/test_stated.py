"""However a file states its colours, they are the same colours in sRGB; the truth is plain arithmetic."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from compute.errors import InvalidInput
from compute.media.images import decode_image
from tests.unit.media import stated
from tests.unit.media.icc import ADOBE_RGB, DISPLAY_P3, rgb_profile
from tests.unit.media.stated import ADOBE, BT2020, P3, SRGB, bt709_curve, in_srgb, patches, power, srgb_curve

GREY, COLOURS = patches(1), patches()


def decode(data: bytes) -> np.ndarray:
    image = decode_image(data, max_pixels=1_000_000, field="image").image
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def assert_same(data: bytes, expected: np.ndarray, tolerance: float = 2.0) -> None:
    found = decode(data)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance


CICP = [
    (12, 13, P3, srgb_curve),
    (9, 13, BT2020, srgb_curve),
    (9, 14, BT2020, bt709_curve),
    (9, 15, BT2020, bt709_curve),
    (1, 1, SRGB, bt709_curve),
    (1, 4, SRGB, power(2.2)),
    (1, 8, SRGB, power(1.0)),
    (5, 5, SRGB, power(2.8)),
    (1, 13, SRGB, srgb_curve),
    (2, 2, SRGB, srgb_curve),
    (12, 2, P3, srgb_curve),
    (200, 13, SRGB, srgb_curve),
]


@pytest.mark.parametrize(("primaries", "transfer", "points", "curve"), CICP)
class TestCodes:
    def test_of_a_png(self, primaries: int, transfer: int, points: object, curve: stated.Curve) -> None:
        points = points if primaries != 5 else ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06))
        data = stated.png(COLOURS, stated.cicp(primaries, transfer))
        assert_same(data, in_srgb(COLOURS, points, curve))

    def test_of_an_avif(self, primaries: int, transfer: int, points: object, curve: stated.Curve) -> None:
        points = points if primaries != 5 else ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06))
        coded = decode(stated.avif(COLOURS, 1, 13))
        assert_same(stated.avif(COLOURS, primaries, transfer), in_srgb(coded, points, curve))

    def test_of_grey(self, primaries: int, transfer: int, points: object, curve: stated.Curve) -> None:
        assert_same(stated.png(GREY, stated.cicp(primaries, transfer)), in_srgb(GREY, points, curve))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_by_name(transfer: int, name: str) -> None:
    for data in (stated.png(COLOURS, stated.cicp(9, transfer)), stated.avif(COLOURS, 9, transfer)):
        with pytest.raises(InvalidInput, match=name) as caught:
            decode(data)
        assert caught.value.field == "image"


def test_values_of_video_are_spread() -> None:
    narrow = np.round(16 + COLOURS * (219 / 255)).astype(np.uint8)
    assert_same(stated.png(narrow, stated.cicp(1, 13, full=0)), COLOURS.astype(float))


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 0.5])
def test_a_gamma_alone_counts(gamma: float) -> None:
    assert_same(stated.png(COLOURS, stated.gama(gamma)), in_srgb(COLOURS, SRGB, power(1 / gamma)))
    assert_same(stated.png(GREY, stated.gama(gamma)), in_srgb(GREY, SRGB, power(1 / gamma)))


def test_gamma_and_primaries() -> None:
    data = stated.png(COLOURS, stated.gama(1 / 2.2), stated.chrm(ADOBE))
    assert_same(data, in_srgb(COLOURS, ADOBE, power(2.2)))


def test_the_figures_of_srgb_and_figures_of_no_colour_change_nothing() -> None:
    nonsense = stated.chunk(b"cHRM", bytes(32))
    for chunks in ([stated.gama(0.45455), stated.chrm(SRGB)], [stated.gama(0.45455)], [nonsense], [stated.gama(0)]):
        assert_same(stated.png(COLOURS, *chunks), COLOURS, 0)


def test_pngs_chunks_count_in_the_order_of_its_third_edition() -> None:
    p3, adobe = stated.cicp(12, 13), stated.iccp(rgb_profile(ADOBE_RGB, 563 / 256))
    srgb, linear = stated.chunk(b"sRGB", b"\0"), stated.gama(1.0)
    of_p3, of_adobe = in_srgb(COLOURS, P3, srgb_curve), in_srgb(COLOURS, ADOBE, power(563 / 256))
    assert_same(stated.png(COLOURS, linear, srgb, adobe, p3), of_p3)
    assert_same(stated.png(COLOURS, linear, srgb, adobe), of_adobe)
    assert_same(stated.png(COLOURS, linear, srgb), COLOURS, 0)
    assert_same(stated.png(COLOURS, linear), in_srgb(COLOURS, SRGB, power(1.0)))
    broken = stated.iccp(b"nonsense")
    assert_same(stated.png(COLOURS, linear, broken), in_srgb(COLOURS, SRGB, power(1.0)))


def test_a_chunk_of_colours_behind_the_pixels_or_with_a_wrong_checksum_is_none() -> None:
    late = stated.png(COLOURS)
    late = late[:-12] + stated.cicp(12, 13) + late[-12:]
    wrong = stated.cicp(12, 13)[:-1] + b"\0"
    assert_same(late, COLOURS, 0)
    assert_same(stated.png(COLOURS, wrong), COLOURS, 0)


def test_the_profile_of_an_avif_counts_more_than_its_codes() -> None:
    plain = decode(stated.avif(COLOURS, 1, 13))
    data = stated.as_file(COLOURS, "AVIF", quality=100, subsampling="4:4:4", icc_profile=rgb_profile(DISPLAY_P3, None))
    assert_same(data, in_srgb(plain, P3, srgb_curve), 3)


def exif_of(space: int | None, index: str | None = None, **tags: object) -> Image.Exif:
    exif = Image.Exif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    if space is not None:
        details[0xA001] = space
    if index:
        details[ExifTags.IFD.Interop] = {1: index}
    for name, value in tags.items():
        exif[ExifTags.Base[name]] = value
    return exif


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize(
    ("space", "index", "adobe"),
    [(2, None, True), (0xFFFF, "R03", True), (None, "R03", True), (1, "R98", False), (0xFFFF, "R98", False)],
)
def test_adobe_rgb_in_exif(image_format: str, space: int | None, index: str | None, adobe: bool) -> None:
    options: dict[str, object] = {"exif": exif_of(space, index).tobytes()}
    if image_format == "WEBP":
        options["lossless"] = True
    elif image_format != "PNG":
        options |= {"quality": 100, "subsampling": "4:4:4"}
    bare = decode(stated.as_file(COLOURS, image_format, **{k: v for k, v in options.items() if k != "exif"}))
    data = stated.as_file(COLOURS, image_format, **options)
    if image_format == "AVIF":
        # Its own codes are there, and count.
        adobe = False
    assert_same(data, in_srgb(bare, ADOBE, power(563 / 256)) if adobe else bare)


def test_a_profile_counts_more_than_exif() -> None:
    exif = exif_of(2)
    bare = decode(stated.as_file(COLOURS, "JPEG", quality=100, subsampling="4:4:4"))
    data = stated.as_file(
        COLOURS, "JPEG", quality=100, subsampling="4:4:4", exif=exif, icc_profile=rgb_profile(DISPLAY_P3, None)
    )
    assert_same(data, in_srgb(bare, P3, srgb_curve))


def test_figures_of_a_tiff() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[318] = tags.tagtype[319] = 5
    tags[318], tags[319] = stated.D65, tuple(value for point in P3 for value in point)
    assert_same(stated.as_file(COLOURS, "TIFF", tiffinfo=tags), in_srgb(COLOURS, P3, srgb_curve))
    tags.tagtype[301] = 3
    tags[301] = tuple(round(65535 * (value / 255) ** 1.8) for value in range(256))
    assert_same(stated.as_file(COLOURS, "TIFF", tiffinfo=tags), in_srgb(COLOURS, P3, power(1.8)))


def test_the_header_of_a_bmp() -> None:
    assert_same(stated.bmp_v4(COLOURS, ADOBE, 2.2), in_srgb(COLOURS, ADOBE, power(2.2)))
    assert_same(stated.bmp_v4(COLOURS, ADOBE, 2.2, space=0x73524742), COLOURS, 0)
    assert_same(stated.bmp_v4(COLOURS, SRGB, 0.0), COLOURS, 0)
    assert_same(stated.bmp_v5(COLOURS, rgb_profile(DISPLAY_P3, None)), in_srgb(COLOURS, P3, srgb_curve))
    assert_same(stated.bmp_v5(COLOURS, b"nonsense"), COLOURS, 0)


def test_transparency_stays_while_colours_move() -> None:
    alpha = np.full((*COLOURS.shape[:2], 1), 77, np.uint8)
    buffer = io.BytesIO(stated.png(np.concatenate([COLOURS, alpha], axis=-1), stated.cicp(12, 13)))
    found = decode(buffer.getvalue())
    assert (found[..., 3] == 77).all()
    assert np.abs(found[..., :3] - in_srgb(COLOURS, P3, srgb_curve)).max() <= 2
