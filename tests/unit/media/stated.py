"""Pictures whose colours are stated in every way, and what they are in sRGB by plain arithmetic."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray
Curve = Callable[[Array], Array]

D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))


def patches(channels: int = 3) -> Array:
    """64 colours, (8, 8, channels) uint8, in blocks of 4 x 4 pixels, so that lossy formats keep them."""
    steps = np.array([40, 100, 160, 220], np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(8, 8, 3)
    if channels == 1:
        colours = np.arange(20, 20 + 64 * 3, 3, dtype=np.uint8).reshape(8, 8, 1)
    return colours.repeat(8, axis=0).repeat(8, axis=1)


def srgb_curve(coded: Array) -> Array:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def bt709_curve(coded: Array) -> Array:
    return np.where(coded < 0.081, coded / 4.5, ((coded + 0.0993) / 1.0993) ** (1 / 0.45))


def power(exponent: float) -> Curve:
    return lambda coded: coded**exponent


def in_srgb(pixels: Array, primaries: Any, curve: Curve) -> Array:
    """The same colours in sRGB; those that it does not have are cut off."""
    light = curve(pixels / 255.0)
    if pixels.shape[-1] == 3:
        light = light @ (np.linalg.inv(_matrix(SRGB)) @ _matrix(primaries)).T
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def _matrix(primaries: Any) -> Array:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def as_file(pixels: Array, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels: Array, *more: bytes) -> bytes:
    """A PNG with these chunks before its pixels."""
    data = as_file(pixels, "PNG")
    return data[:33] + b"".join(more) + data[33:]


def cicp(primaries: int, transfer: int, *, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes([primaries, transfer, 0, full]))


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def chrm(primaries: Any) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *[round(v * 100_000) for point in (D65, *primaries) for v in point]))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))


def avif(pixels: Array, primaries: int, transfer: int) -> bytes:
    """An AVIF with these codes in the box that states them; they do not touch how the pixels are coded."""
    data = as_file(pixels, "AVIF", quality=100, subsampling="4:4:4")
    place = data.index(b"nclx") + 4
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


def bmp_v4(pixels: Array, primaries: Any, gamma: float, space: int = 0) -> bytes:
    """A BMP with a header of version 4, calibrated by figures."""
    matrix = _matrix(primaries)
    figures = struct.pack("<9i", *[round(v * 2**30) for v in matrix.T.ravel()])
    extra = (
        struct.pack("<5I", 0xFF0000, 0xFF00, 0xFF, 0, space) + figures + struct.pack("<3I", *[round(gamma * 2**16)] * 3)
    )
    return _bmp(pixels, 108, extra)


def bmp_v5(pixels: Array, profile: bytes) -> bytes:
    """A BMP with a header of version 5 and a profile behind its pixels."""
    extra = struct.pack("<5I", 0xFF0000, 0xFF00, 0xFF, 0, 0x4D424544) + bytes(36 + 12)
    extra += struct.pack("<4I", 4, 124 + pixels.size, len(profile), 0)
    return _bmp(pixels, 124, extra) + profile


def _bmp(pixels: Array, header: int, extra: bytes) -> bytes:
    height, width, _ = pixels.shape
    body = pixels[::-1, :, ::-1].tobytes()
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, 24, 0, len(body), 2835, 2835, 0, 0) + extra
    return struct.pack("<2sIHHI", b"BM", 14 + header + len(body), 0, 0, 14 + header) + info + body
