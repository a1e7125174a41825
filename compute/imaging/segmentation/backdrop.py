"""Estimates the backdrop of an image from its border, and each pixel's distance from it.

Two models of the backdrop: a smooth surface in L*a*b* if it is plain (a wall, a studio with its fall-off of light),
else a few colours.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Backdrop", "fit_backdrop"]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_ROUNDS = 5
_COLOURS = 8
_LEAST_NOISE = 0.7
"""The finest difference that counts, in units of L*a*b*: about the error of 8 bits and JPEG in a flat colour."""
_PLAIN_NOISE = 3.0
"""A backdrop whose pixels lie this close to a smooth surface is plain."""
_LEAST_SPREAD = 3.0
_DARKER = 0.55
"""The weight of being darker than the backdrop, relative to another colour: shadows are dark."""
_DEEPEST_SHADOW = 0.4
"""The L* of a cast shadow, as a share of that of the backdrop."""
_STEEPEST_SHADOW = 1800.0
"""The steepest fall of L* in a shadow, over the length of the longer side. The edges of objects are steeper, as far as
the resolution shows it."""
_STEEPEST_PER_PIXEL = 8.0


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Maps of (height, width).

    Attributes:
        plain: Whether the backdrop is a smooth surface.
        distance: From the backdrop, in standard deviations of the backdrop itself.
        shadow: Pixels that may be the backdrop in a shadow: its hue, darker, without an edge.
    """

    plain: bool
    distance: Floats
    shadow: Bools


def fit_backdrop(lab: Floats) -> Backdrop:
    """Fit the backdrop of an image in L*a*b* (height, width, 3). The subject may cover two fifths of the border."""
    border = _border(lab.shape[:2])
    surface, noise = _surface(lab, border)
    if noise > _PLAIN_NOISE:
        return Backdrop(False, _distance_from_colours(lab, border), np.zeros(lab.shape[:2], np.bool_))
    offset = lab - surface
    lightness = np.where(offset[..., 0] < 0, _DARKER, 1.0) * offset[..., 0]
    distance = np.sqrt(lightness**2 + offset[..., 1] ** 2 + offset[..., 2] ** 2) / max(noise, _LEAST_NOISE)
    return Backdrop(True, distance.astype(np.float32), _shadow(lab, surface, noise))


def _border(shape: tuple[int, ...]) -> Bools:
    """The strips at the top, the left and the right; at the bottom, subjects often stand on the edge."""
    strip = max(2, round(min(shape) * 0.025))
    border = np.zeros(shape, np.bool_)
    border[:strip] = True
    border[:, :strip] = True
    border[:, -strip:] = True
    return border


def _surface(lab: Floats, border: Bools) -> tuple[Floats, float]:
    """A quadratic surface through the border by trimmed least squares, and the noise about it."""
    height, width = lab.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)
    samples, colours = terms[border].astype(np.float64), lab[border].astype(np.float64)
    used = np.linalg.norm(colours - np.median(colours, axis=0), axis=1) < 40
    noise = np.inf
    weights = np.zeros((samples.shape[1], 3))
    for _ in range(_ROUNDS):
        weights = np.linalg.lstsq(samples[used], colours[used], rcond=None)[0]
        errors = np.linalg.norm(colours - samples @ weights, axis=1)
        noise = float(np.quantile(errors, 0.6))
        used = errors <= 3 * max(noise, _LEAST_NOISE)
    return (terms @ weights.astype(np.float32)).astype(np.float32), noise


def _shadow(lab: Floats, surface: Floats, noise: float) -> Bools:
    share = lab[..., 0] / np.maximum(surface[..., 0], 1)
    # A shadow keeps the hue and loses chroma as it loses light.
    hue = np.linalg.norm(lab[..., 1:] - surface[..., 1:] * share[..., None], axis=-1)
    lightness = cv2.GaussianBlur(lab[..., 0], (0, 0), 1.0)
    slope = np.hypot(cv2.Scharr(lightness, cv2.CV_32F, 1, 0), cv2.Scharr(lightness, cv2.CV_32F, 0, 1)) / 32
    limit = min(_STEEPEST_SHADOW / max(slope.shape), _STEEPEST_PER_PIXEL)
    steep = cv2.dilate((slope > limit).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    alike = (share > _DEEPEST_SHADOW) & (share <= 1.02) & (hue < max(3 * noise, 5.0))
    return np.asarray(alike & ~steep, np.bool_)


def _distance_from_colours(lab: Floats, border: Bools) -> Floats:
    """The distance from the nearest colour of the border, relative to that colour's spread there."""
    colours = lab[border]
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    # OpenCV chooses the first centres at random.
    cv2.setRNGSeed(0)
    _, labels, centres = cv2.kmeans(colours, _COLOURS, None, criteria, 2, cv2.KMEANS_PP_CENTERS)
    nearest = np.full(lab.shape[:2], np.inf, np.float32)
    for index in range(_COLOURS):
        mine = colours[labels[:, 0] == index]
        # A colour of only a small part of the border may as well be the subject's.
        if len(mine) < len(colours) / 20:
            continue
        spread = max(float(np.sqrt(((mine - centres[index]) ** 2).sum(axis=1).mean())), _LEAST_SPREAD)
        nearest = np.minimum(nearest, np.linalg.norm(lab - centres[index], axis=-1) / spread)
    return nearest
