"""Reads the colour space of an image file from all its sources, as ICC profiles in order of precedence.

PNG     cICP, iCCP, sRGB, gAMA and cHRM, then EXIF (PNG third edition)
AVIF    an ICC profile, then the nclx codes of the image, then EXIF
BMP     the profile or the calibration of its header (versions 4 and 5)
TIFF    an ICC profile, then WhitePoint, PrimaryChromaticities and TransferFunction
JPEG, WebP  an ICC profile, then EXIF
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from compute.media.colours.codes import profile_of_codes
from compute.media.colours.icc import (
    D65,
    SRGB_PRIMARIES,
    Curve,
    Point,
    gamma,
    grey_profile,
    primaries_of_xyz,
    rgb_profile,
    srgb,
)
from compute.media.formats import avif, bmp, png

__all__ = ["stated_profiles"]

_GREY_MODES = ("1", "L", "I")
_MOST_PROFILE = 4 * 2**20
_NCLX_OF_PNG = 4
_EXIF_IFD_SPACE, _INTEROP_INDEX = 0xA001, 1
_WHITE_POINT, _PRIMARIES, _TRANSFER_FUNCTION = 318, 319, 301
_SRGB, _ADOBE_RGB, _UNCALIBRATED = 1, 2, 0xFFFF
_ADOBE_PRIMARIES: tuple[Point, Point, Point] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_ADOBE_GAMMA = 563 / 256
# The PNG specification's values for sRGB, and libpng's threshold for equality.
_GAMMA_OF_SRGB, _SAME_GAMMA = 1 / 2.2, 0.02
_SAME_POINT = 0.002
_SOUND_GAMMA = (0.1, 10.0)


def stated_profiles(opened: Image.Image, data: bytes, field: str) -> list[bytes]:
    """The profiles stated by an image, in order of precedence; none where it states sRGB, or nothing.

    `opened` is open and need not be loaded; `data` is the original file. Broken data are ignored.

    Raises:
        InvalidInput: the image is high dynamic range.
    """
    grey = opened.mode.startswith(_GREY_MODES)
    profile = opened.info.get("icc_profile")
    found = [profile] if profile else []
    match opened.format:
        case "PNG":
            return list(_of_png(opened, png.colour_chunks(data), grey=grey, field=field))
        case "AVIF":
            codes = avif.stated_codes(data)
            if codes is not None:
                found.append(profile_of_codes(*codes, grey=grey, narrow=False, field=field))
                return found
        case "BMP":
            return list(_of_bmp(data, grey=grey))
        case "TIFF":
            return [*found, *_of_tags(_tags(opened), grey=grey)]
    return [*found, *_of_exif(opened, grey=grey)]


def _of_png(opened: Image.Image, chunks: Mapping[bytes, bytes], *, grey: bool, field: str) -> Iterator[bytes]:
    codes = chunks.get(b"cICP", b"")
    if len(codes) == _NCLX_OF_PNG and codes[2] == 0:
        yield profile_of_codes(codes[0], codes[1], grey=grey, narrow=codes[3] == 0, field=field)
    if b"iCCP" in chunks and (profile := _inflated(chunks[b"iCCP"])):
        yield profile
    if b"sRGB" in chunks:
        return
    if chunks.keys() & {b"gAMA", b"cHRM"}:
        yield from _calibrated(*_figures(chunks), grey=grey)
        return
    yield from _of_exif(opened, grey=grey)


def _inflated(chunk: bytes) -> bytes | None:
    """The profile of an iCCP chunk, which follows its name and a byte for the method."""
    _, _, packed = chunk.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], _MOST_PROFILE)
    except zlib.error:
        return None
    return profile if unpacker.eof else None


def _figures(chunks: Mapping[bytes, bytes]) -> tuple[Sequence[Point], Point, float]:
    """Primaries, white and the exponent of gAMA and cHRM; those of sRGB where one is missing."""
    points: Sequence[Point] = (D65, *SRGB_PRIMARIES)
    if len(chromaticities := chunks.get(b"cHRM", b"")) == 32:
        figures = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
        points = list(zip(figures[::2], figures[1::2], strict=True))
    stored = int.from_bytes(chunks.get(b"gAMA", b""), "big") / 100_000
    return points[1:], points[0], stored or _GAMMA_OF_SRGB


def _calibrated(primaries: Sequence[Point], white: Point, stored: float, *, grey: bool) -> Iterator[bytes]:
    """A profile of these values. A gamma of about 1/2.2 with sRGB's primaries stands for sRGB itself."""
    of_srgb = _same([white, *primaries], [D65, *SRGB_PRIMARIES])
    if (of_srgb or grey) and abs(stored - _GAMMA_OF_SRGB) < _SAME_GAMMA:
        return
    if _SOUND_GAMMA[0] <= stored <= _SOUND_GAMMA[1]:
        yield from _made(primaries, white, (gamma(1 / stored),) * 3, grey=grey)


def _of_bmp(data: bytes, *, grey: bool) -> Iterator[bytes]:
    if not bmp.is_bmp(data):
        return
    if profile := bmp.embedded_profile(data):
        yield profile
    elif (found := bmp.calibration(data)) is not None:
        endpoints, gammas = found
        if all(_SOUND_GAMMA[0] <= one <= _SOUND_GAMMA[1] for one in gammas):
            try:
                points, white = primaries_of_xyz(endpoints)
            except ValueError:
                return
            yield from _made(points, white, [gamma(one) for one in gammas], grey=grey)


def _of_exif(opened: Image.Image, *, grey: bool) -> Iterator[bytes]:
    """Cameras write Adobe RGB as R03, the index of DCF's optional colours, and some as 2; uncalibrated colours may be
    stated by numbers."""
    try:
        exif = opened.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(_INTEROP_INDEX)
        space = details.get(_EXIF_IFD_SPACE)
        tags = {tag: exif[tag] for tag in (_WHITE_POINT, _PRIMARIES, _TRANSFER_FUNCTION) if tag in exif}
    except Exception:
        # As with its orientation: a broken block of metadata.
        return
    if space == _ADOBE_RGB or (space != _SRGB and _is_r03(index)):
        yield from _made(_ADOBE_PRIMARIES, D65, (gamma(_ADOBE_GAMMA),) * 3, grey=grey)
    elif space == _UNCALIBRATED:
        yield from _of_tags(tags, grey=grey)


def _is_r03(index: object) -> bool:
    text = index.decode("latin-1") if isinstance(index, bytes) else index
    return isinstance(text, str) and text.startswith("R03")


def _tags(opened: Image.Image) -> Mapping[int, Any]:
    return opened.tag_v2 if isinstance(opened, TiffImagePlugin.TiffImageFile) else {}


def _of_tags(tags: Mapping[int, Any], *, grey: bool) -> Iterator[bytes]:
    """Read the numeric colour tags of TIFF and EXIF."""
    if not {_WHITE_POINT, _PRIMARIES, _TRANSFER_FUNCTION} & tags.keys():
        return
    try:
        white = _points(tags.get(_WHITE_POINT), 1) or [D65]
        primaries = _points(tags.get(_PRIMARIES), 3) or list(SRGB_PRIMARIES)
        curves = _tables(tags.get(_TRANSFER_FUNCTION)) or (srgb,) * 3
    except (TypeError, ValueError, ZeroDivisionError):
        return
    yield from _made(primaries, white[0], curves, grey=grey)


def _points(values: Any, count: int) -> list[Point]:
    if values is None or len(values) != 2 * count:
        return []
    figures = [float(value) for value in values]
    return list(zip(figures[::2], figures[1::2], strict=True))


def _tables(values: Any) -> tuple[Curve, ...] | None:
    """One table of 2^bits values for all channels, or one for each of three channels."""
    if values is None or len(values) < 2:
        return None
    length = len(values)
    parts = 3 if length % 3 == 0 else 1
    tables = np.split(np.array(values, np.float64) / 65535, parts)
    curves = [_interpolated(table) for table in tables]
    return tuple(curves * 3)[:3]


def _interpolated(table: NDArray[np.float64]) -> Curve:
    positions = np.linspace(0, 1, len(table))
    return lambda coded: np.interp(coded, positions, table)


def _made(primaries: Sequence[Point], white: Point, curves: Sequence[Curve], *, grey: bool) -> Iterator[bytes]:
    """A profile of these values; none if they are not valid colours."""
    try:
        yield grey_profile(curves[0]) if grey else rgb_profile(primaries, white, curves)
    except ValueError:
        return


def _same(points: Sequence[Point], others: Sequence[Point]) -> bool:
    return bool(np.abs(np.array(points) - np.array(others)).max() < _SAME_POINT)
