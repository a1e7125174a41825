"""Builds ICC profiles from a file's numeric colour data (primaries, white point, curves).

One converter, Little CMS, then handles all of them. Profiles are version 2.4 (ICC.1:2001-04): a matrix and three
curves, or one curve for grey.
"""

import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "D65",
    "SRGB_PRIMARIES",
    "Curve",
    "Point",
    "gamma",
    "grey_profile",
    "primaries_of_xyz",
    "rgb_profile",
    "srgb",
]

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""A curve from coded values to light, both 0 to 1."""
Point = tuple[float, float]

D65: Point = (0.3127, 0.3290)
SRGB_PRIMARIES: tuple[Point, Point, Point] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_STEPS = 4096


def srgb(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve of IEC 61966-2-1."""
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def gamma(exponent: float) -> Curve:
    """The curve of light as the coded value to this power."""
    return lambda coded: np.asarray(coded**exponent, np.float64)


def rgb_profile(primaries: Sequence[Point], white: Point, curves: Sequence[Curve]) -> bytes:
    """Red, green and blue and the white between them as CIE xy; a curve for each, in the same order.

    Raises:
        ValueError: these are not three different colours around a white.
    """
    columns = _adapted(_matrix(primaries, white), _xyz(white))
    tags = [(name, _xyz_tag(column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)]
    tags += [(name, _curve_tag(curve)) for name, curve in zip((b"rTRC", b"gTRC", b"bTRC"), curves, strict=True)]
    return _profile(b"RGB ", tags)


def grey_profile(curve: Curve) -> bytes:
    return _profile(b"GRAY", [(b"kTRC", _curve_tag(curve))])


def primaries_of_xyz(colours: Sequence[tuple[float, float, float]]) -> tuple[list[Point], Point]:
    """The xy of three colours given as XYZ, and of the white that they make together.

    Raises:
        ValueError: one of them is not a colour.
    """
    points = [_xy(np.array(colour)) for colour in colours]
    return points, _xy(np.sum(np.array(colours), axis=0))


def _xy(colour: NDArray[np.float64]) -> Point:
    total = float(colour.sum())
    if not total > 0:
        raise ValueError("a colour without light")
    return float(colour[0]) / total, float(colour[1]) / total


def _xyz(point: Point) -> NDArray[np.float64]:
    x, y = point
    if not (0 < y <= 1 and 0 <= x <= 1):
        raise ValueError("no point in the diagram of colours")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _matrix(primaries: Sequence[Point], white: Point) -> NDArray[np.float64]:
    """The matrix from linear RGB to XYZ; 1, 1, 1 is the white. A primary may lie outside of the diagram, at y = 0."""
    corners = np.array([[x, y, 1 - x - y] for x, y in primaries]).T
    if abs(np.linalg.det(corners)) < 1e-6:
        raise ValueError("three primaries on one line")
    amounts = np.linalg.solve(corners, _xyz(white))
    if not (amounts > 0).all():
        raise ValueError("a white outside of its primaries")
    return np.asarray(corners * amounts, np.float64)


def _adapted(matrix: NDArray[np.float64], white: NDArray[np.float64]) -> NDArray[np.float64]:
    """With the white of profiles, D50, after Bradford."""
    ratio = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(ratio) @ _BRADFORD @ matrix, np.float64)


def _profile(space: bytes, tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    text = b"stated by the file\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    all_tags = [(b"desc", described), (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", _xyz_tag(_D50)), *tags]
    offset = 128 + 4 + 12 * len(all_tags)
    table, body = struct.pack(">I", len(all_tags)), b""
    for name, data in all_tags:
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI", offset + len(body), 0x02400000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    head += bytes(28) + b"".join(_fixed(value) for value in _D50)
    return head + bytes(128 - len(head)) + table + body


def _curve_tag(curve: Curve) -> bytes:
    light = np.clip(np.nan_to_num(curve(np.linspace(0, 1, _STEPS))), 0, 1)
    return b"curv\0\0\0\0" + struct.pack(">I", _STEPS) + np.round(light * 65535).astype(">u2").tobytes()


def _xyz_tag(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))
