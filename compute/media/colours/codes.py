"""Colour spaces by their codes of ITU-T H.273, used by AVIF's nclx box and PNG's cICP chunk."""

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidInput
from compute.media.colours.icc import D65, SRGB_PRIMARIES, Curve, Point, gamma, grey_profile, rgb_profile, srgb

__all__ = ["profile_of_codes"]

_C: Point = (0.310, 0.316)
_P3: tuple[Point, Point, Point] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_NTSC: tuple[Point, Point, Point] = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_PRIMARIES: dict[int, tuple[tuple[Point, Point, Point], Point]] = {
    1: (SRGB_PRIMARIES, D65),
    4: (((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), _C),
    5: (((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: (_NTSC, D65),
    7: (_NTSC, D65),
    8: (((0.681, 0.319), (0.243, 0.692), (0.145, 0.049)), _C),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    10: (((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)), (1 / 3, 1 / 3)),
    11: (_P3, (0.314, 0.351)),
    12: (_P3, D65),
    22: (((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), D65),
}
_HDR = {16: "PQ", 18: "HLG"}
_ALPHA, _BETA = 1.09929682680944, 0.018053968510807


def _camera(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.709's curve, which BT.601 and BT.2020 share."""
    return np.where(coded < 4.5 * _BETA, coded / 4.5, ((coded + _ALPHA - 1) / _ALPHA) ** (1 / 0.45))


def _smpte_240(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(coded < 0.0913, coded / 4, ((coded + 0.1115) / 1.1115) ** (1 / 0.45))


def _logarithmic(decades: float) -> Curve:
    return lambda coded: np.where(coded > 0, 10 ** (decades * (coded - 1)), 0.0)


_CURVES: dict[int, Curve] = {
    1: _camera,
    4: gamma(2.2),
    5: gamma(2.8),
    6: _camera,
    7: _smpte_240,
    8: gamma(1.0),
    9: _logarithmic(2.0),
    10: _logarithmic(2.5),
    11: _camera,
    12: _camera,
    13: srgb,
    14: _camera,
    15: _camera,
    17: gamma(2.6),
}


def profile_of_codes(primaries: int, transfer: int, *, grey: bool, narrow: bool, field: str) -> bytes:
    """The ICC profile of these codes; unspecified or unknown ones are taken as sRGB's.

    `narrow`: black and white are the values 16 and 235 of 255.

    Raises:
        InvalidInput: the image is high dynamic range (PQ or HLG), for which there is no one image in sRGB.
    """
    if transfer in _HDR:
        raise InvalidInput(
            f"High dynamic range images ({_HDR[transfer]}) are not accepted; export the image in sRGB or Display P3.",
            field=field,
        )
    curve = _CURVES.get(transfer, srgb)
    if narrow:
        curve = _narrow(curve)
    points, white = _PRIMARIES.get(primaries, _PRIMARIES[1])
    return grey_profile(curve) if grey else rgb_profile(points, white, (curve,) * 3)


def _narrow(curve: Curve) -> Curve:
    return lambda coded: curve(np.clip((coded * 255 - 16) / 219, 0, 1))
