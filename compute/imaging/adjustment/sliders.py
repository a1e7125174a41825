"""Brightness, contrast, warmth and saturation, applied in this order; each from -1 to 1, 0 changes nothing.

v is a channel as sRGB codes it, from 0 to 1; linear light is v through the curve of IEC 61966-2-1.

- Brightness b: v' = v ** (2 ** -b). A curve through black and white, so nothing is clipped; 1 takes mid-grey 128 to
  181, -1 to 64.
- Contrast c: about mid-grey v = 1/2, where the slope is 4 ** c: 0.5 doubles it, -0.5 halves it. Up, along a sigmoid
  that ends in black and white: v' = v^g / (v^g + (1 - v)^g) with g = 4 ** c. Down, a line: v' = 1/2 + (v - 1/2) * 4^c.
- Warmth w: in linear light, from white D65 to the daylight that is 60 w mired away (w = 1: about 4680 K, w = -1: about
  10660 K), by Bradford's chromatic adaptation. Scaled so that no channel of white grows: white takes on the tint,
  and goes from L* 100 to 92 (w = 1) or to 86 (w = -1).
- Saturation s: in linear light, each pixel goes away from the grey of its own luminance, or towards it:
  rgb' = Y + k (rgb - Y). For s < 0, k = 1 + s; -1 is black and white. For s > 0, k = 1 + s (min(room, 2) - 1), where
  room is the k at which the pixel would leave sRGB: strong colours get as close to the edge as s says, and none is
  clipped. Y is kept, and greys stay as they are.

Alpha is never touched.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Adjustments", "adjust"]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_MIRED_RANGE = 60.0
_D65_KELVIN = 6504.0
_BAND_PIXELS = 1 << 20
"""Rows processed at a time: the floats of a whole large image would take sixteen times its memory."""
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_XYZ_FROM_RGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True, slots=True)
class Adjustments:
    """Each from -1 to 1."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    warmth: float = 0.0


def adjust(image: Image.Image, wanted: Adjustments) -> Image.Image:
    """Adjust the colours of an image in mode L, RGB or RGBA; without adjustments it is returned as it is.

    A grey image (L) stays grey, unless warmth tints it: then the result is RGB.

    Example:
        warmer = adjust(image, Adjustments(brightness=0.1, warmth=0.3))
    """
    if wanted == Adjustments():
        return image
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    if colours.mode == "L" and wanted.warmth:
        colours = colours.convert("RGB")
    if colours.mode == "L" or not (wanted.warmth or wanted.saturation):
        changed = colours.point(_table(wanted) * len(colours.getbands()))
    else:
        changed = Image.fromarray(_in_linear_light(np.asarray(colours), wanted))
    changed.info = dict(image.info)
    if alpha is not None:
        changed.putalpha(alpha)
    return changed


def _table(wanted: Adjustments) -> list[int]:
    """The lookup table of brightness and contrast for the 256 values of a channel."""
    values: list[int] = np.round(_toned(wanted) * 255).astype(int).tolist()
    return values


def _toned(wanted: Adjustments) -> NDArray[np.float64]:
    value = np.linspace(0, 1, 256) ** (2.0**-wanted.brightness)
    slope = 4.0**wanted.contrast
    if wanted.contrast <= 0:
        return np.asarray(0.5 + (value - 0.5) * slope)
    up, down = value**slope, (1 - value) ** slope
    return np.asarray(up / (up + down))


def _in_linear_light(pixels: Bytes, wanted: Adjustments) -> Bytes:
    light = _linear(_toned(wanted)).astype(np.float32)
    tint = _adaptation(wanted.warmth)
    result = np.empty_like(pixels)
    rows = max(1, _BAND_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        band = light[pixels[top : top + rows]]
        if wanted.warmth:
            band = np.clip(band @ tint.T, 0, 1)
        if wanted.saturation:
            band = _saturated(band, wanted.saturation)
        result[top : top + rows] = _codes()[np.round(band * 65535).astype(np.uint16)]
    return result


def _saturated(light: Floats, saturation: float) -> Floats:
    """Linear RGB (height, width, 3) with its colourfulness changed."""
    grey = light @ _LUMINANCE[:, None]
    offset = light - grey
    if saturation < 0:
        return np.asarray(grey + (1 + saturation) * offset)
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(offset > 0, (1 - grey) / offset, np.where(offset < 0, -grey / offset, np.inf))
    # Rounding may already have put a colour slightly outside.
    room = np.clip(room.min(axis=-1, keepdims=True), 1, 2)
    return np.asarray(np.clip(grey + (1 + saturation * (room - 1)) * offset, 0, 1), np.float32)


@cache
def _codes() -> Bytes:
    """The sRGB code of each of 65536 steps of linear light; twenty of them make the smallest step of a code."""
    light = np.linspace(0, 1, 65536)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(coded * 255).astype(np.uint8))


def _linear(coded: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def _adaptation(warmth: float) -> Floats:
    """The 3 x 3 matrix for linear RGB."""
    cones = _BRADFORD @ _XYZ_FROM_RGB
    white = cones @ np.ones(3)
    target = _BRADFORD @ (_daylight(warmth) * (_XYZ_FROM_RGB @ np.ones(3)) / _daylight(0.0))
    matrix = np.linalg.inv(cones) @ np.diag(target / white) @ cones
    return np.asarray(matrix / (matrix @ np.ones(3)).max(), np.float32)


def _daylight(warmth: float) -> NDArray[np.float64]:
    """XYZ of the daylight that is `warmth` * 60 mired from D65, with Y = 1 (CIE 15:2004, section 3.1)."""
    kelvin = 1e6 / (1e6 / _D65_KELVIN + _MIRED_RANGE * warmth)
    inverse = 1000 / kelvin
    if kelvin <= 7000:
        x = 0.244063 + 0.09911 * inverse + 2.9678 * inverse**2 - 4.6070 * inverse**3
    else:
        x = 0.237040 + 0.24748 * inverse + 1.9018 * inverse**2 - 2.0064 * inverse**3
    y = -3.000 * x**2 + 2.870 * x - 0.275
    return np.array([x / y, 1, (1 - x - y) / y])
