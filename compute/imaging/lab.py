"""Converts between sRGB and CIE L*a*b* (D65) by IEC 61966-2-1 and CIE 15; 8-bit colours survive the round trip.

OpenCV's own conversion from sRGB interpolates in tables: it is off by up to half a unit, and 8-bit colours do not
survive it. Its conversion from linear light is exact. So the transfer function is computed here and the rest by OpenCV.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["lab_from_srgb", "srgb_from_lab"]

Floats = NDArray[np.float32]


def lab_from_srgb(pixels: NDArray[Any]) -> Floats:
    """Convert (height, width, 3) sRGB, uint8 or floats from 0 to 255, to float32 L* (0..100), a*, b*."""
    eight_bits = pixels.dtype == np.uint8
    linear = cv2.LUT(pixels, _LINEAR) if eight_bits else _linear(pixels.astype(np.float32) / np.float32(255))
    return np.asarray(cv2.cvtColor(linear, cv2.COLOR_LRGB2LAB), np.float32)


def srgb_from_lab(lab: Floats) -> Floats:
    """Convert (height, width, 3) float32 L*a*b* to float32 sRGB from 0 to 255; colours outside of sRGB are clipped."""
    linear = np.clip(np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2LRGB), np.float32), 0, 1)
    bright = np.float32(1.055) * np.asarray(cv2.pow(linear, 1 / 2.4), np.float32) - np.float32(0.055)
    return np.where(linear <= 0.0031308, linear * np.float32(12.92), bright) * np.float32(255)


def _linear(srgb: Floats) -> Floats:
    bright = np.maximum((srgb + np.float32(0.055)) / np.float32(1.055), 0) ** np.float32(2.4)
    return np.where(srgb <= 0.04045, srgb / np.float32(12.92), bright).astype(np.float32)


_LINEAR = _linear(np.arange(256, dtype=np.float32) / np.float32(255))
"""Linear light of each of the 256 values."""
