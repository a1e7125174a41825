"""The figure that wears the garments: its poses, and the outlines of its limbs.

Lengths are shares of the figure's height: x from its middle to the right, y from the top of its head down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Body", "Outline", "Stance", "aside", "body", "ellipse", "limb", "smooth", "symmetric"]

Outline = NDArray[np.float64]
"""The corners of a polygon or of a line, (n, 2)."""

_SHOULDER = (0.104, 0.252)
_UPPER_ARM, _FOREARM = 0.15, 0.14
_HIP = (0.056, 0.50)
_THIGH, _SHIN = 0.23, 0.21
_CIRCLE = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_ROUND = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)
_ALONG = np.linspace(0, 1, 7)[:, None]
_BEZIER = np.hstack([(1 - _ALONG) ** 2, 2 * _ALONG * (1 - _ALONG), _ALONG**2])


@dataclass(frozen=True, slots=True)
class Stance:
    """Angles of the limbs, in degrees outwards from hanging straight down; left before right.

    Attributes:
        arms: For each arm, the upper arm and the forearm.
        legs: For each leg.
        turn: -1 looks to the left of the image, 1 to the right.
    """

    arms: tuple[tuple[float, float], tuple[float, float]]
    legs: tuple[float, float] = (0.0, 0.0)
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Body:
    """Positions of the joints. Arms are shoulder, elbow and wrist; legs are hip, knee and ankle; left before right."""

    arms: tuple[Outline, Outline]
    legs: tuple[Outline, Outline]
    turn: int


def body(stance: Stance) -> Body:
    arms = [
        _chain((side * _SHOULDER[0], _SHOULDER[1]), side, angles, (_UPPER_ARM, _FOREARM))
        for side, angles in zip((-1, 1), stance.arms, strict=True)
    ]
    legs = [
        _chain((side * _HIP[0], _HIP[1]), side, (angle, angle), (_THIGH, _SHIN))
        for side, angle in zip((-1, 1), stance.legs, strict=True)
    ]
    return Body((arms[0], arms[1]), (legs[0], legs[1]), stance.turn)


def _chain(start: tuple[float, float], side: int, angles: Sequence[float], lengths: Sequence[float]) -> Outline:
    points = [np.array(start)]
    for angle, length in zip(np.radians(angles), lengths, strict=True):
        points.append(points[-1] + length * np.array([side * np.sin(angle), np.cos(angle)]))
    return np.stack(points)


def limb(joints: Outline, widths: Sequence[float], until: float = 1.0) -> Outline:
    """Return the outline of a tube around three joints, bent smoothly, with a flat end.

    Args:
        widths: At its start, its middle and its end.
        until: The share of the length at which it ends.
    """
    along = _BEZIER if until == 1.0 else _bezier(until)
    centre = along @ joints
    half = (along @ np.array(widths))[:, None] / 2
    way = np.gradient(centre, axis=0)
    across = np.stack([-way[:, 1], way[:, 0]], axis=1) / np.hypot(way[:, 0], way[:, 1])[:, None]
    return np.concatenate([centre + half * across, (centre - half * across)[::-1]])


def _bezier(until: float) -> Outline:
    at = _ALONG * until
    return np.hstack([(1 - at) ** 2, 2 * at * (1 - at), at**2])


def ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> Outline:
    return np.asarray(_ROUND * np.array(radii) + np.array(centre), np.float64)


def symmetric(right: Sequence[tuple[float, float]]) -> Outline:
    """Return a polygon from its right half, top to bottom."""
    half = np.array(right, np.float64)
    return np.concatenate([half, half[::-1] * (-1, 1)])


def aside(points: Outline, x: float) -> Outline:
    """Return the points moved to the right."""
    return np.asarray(points + np.array((x, 0.0)), np.float64)


def smooth(points: Outline, rounds: int = 2) -> Outline:
    """Return the polygon with rounded corners (Chaikin); a corner that is given twice stays sharp."""
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return points
