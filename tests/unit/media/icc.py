"""Colour profiles, built from figures: the smallest files that ICC.1:2010 (version 2.4 of the format) calls valid."""

import struct
from collections.abc import Sequence

import numpy as np

# Columns: red, green, blue in XYZ, adapted to D50 as profiles want them.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries: Sequence[Sequence[float]], gamma: float | None) -> bytes:
    """A matrix profile; without a gamma it has the curve of sRGB."""
    columns = [(name, _xyz(colour)) for name, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)]
    curves = [(name, _curve(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return _profile(b"RGB ", b"XYZ ", [*columns, *curves])


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", [(b"kTRC", _curve(gamma))])


def cmyk_profile(cyan: tuple[float, float, float]) -> bytes:
    """Cyan ink prints as this L*a*b*, other inks darken to black; all in proportion."""
    nodes = bytearray()
    for inks in np.ndindex(2, 2, 2, 2):
        lightness, a, b = (100.0, 0.0, 0.0) if not inks[0] else cyan
        black = any(inks[1:])
        nodes += bytes([0 if black else round(lightness * 2.55), *(128 if black else round(128 + c) for c in (a, b))])
    matrix = b"".join(_fixed(value) for value in np.eye(3).ravel())
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + bytes(nodes) + ramp * 3
    return _profile(b"CMYK", b"Lab ", [(b"A2B0", table)])


def _profile(space: bytes, connection: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    text = b"test"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78)
    tags = [(b"desc", description), (b"wtpt", _xyz(_D50)), (b"cprt", b"text\0\0\0\0none\0"), *tags]
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags:
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    device = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">II", offset + len(body), 0) + struct.pack(">I", 0x02400000) + device + space + connection
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(_fixed(value) for value in _D50)
    return header + bytes(128 - len(header)) + table + body


def _curve(gamma: float | None) -> bytes:
    if gamma is not None:
        return b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    coded = np.linspace(0, 1, 1024)
    light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *np.round(light * 65535).astype(int).tolist())


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
