"""The named colours of the demo data set, and the tones of its images."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUNDS", "COLORS", "SKINS", "Inks", "Rgb", "Tone", "inks_of", "tones"]

Rgb = tuple[int, int, int]


class Inks(NamedTuple):
    """The colours of one thing: its surface, the side away from the light, its outline and its folds."""

    fill: Rgb
    shade: Rgb
    outline: Rgb
    fold: Rgb


COLORS: dict[str, Rgb] = {
    "red": (214, 38, 46),
    "blue": (34, 78, 196),
    "green": (34, 142, 70),
    "yellow": (252, 212, 44),
    "orange": (246, 130, 28),
    "purple": (122, 52, 170),
    "pink": (250, 140, 190),
    "black": (42, 42, 48),
    "white": (250, 250, 250),
    "brown": (110, 62, 32),
}
"""The colours of garments."""

BACKGROUNDS: dict[str, Rgb] = {
    "white": (250, 250, 250),
    "gray": (172, 175, 181),
    "black": (28, 28, 33),
    "beige": (232, 214, 186),
    "red": (222, 76, 76),
    "blue": (88, 146, 226),
    "green": (104, 184, 122),
    "yellow": (250, 222, 104),
    "pink": (250, 184, 208),
    "purple": (154, 112, 202),
}
"""The colours of backgrounds: softer than those of garments, so that a garment stands out."""

SKINS: tuple[Rgb, ...] = ((246, 209, 184), (216, 166, 130), (164, 112, 82))
_HAIR: Rgb = (72, 78, 98)
_BASE: Rgb = (140, 148, 166)
"""Colour of a figure's other clothes; no garment and no background has it."""

_SPECIAL: dict[str, Inks] = {
    "black": Inks((42, 42, 48), (30, 30, 35), (14, 14, 17), (88, 88, 98)),
    "white": Inks((250, 250, 250), (227, 230, 236), (146, 152, 166), (196, 201, 212)),
    "yellow": Inks((252, 212, 44), (240, 188, 30), (168, 118, 14), (206, 152, 20)),
}


class Tone(IntEnum):
    """The meaning of a pixel of an illustration."""

    BACKGROUND = 0
    SHADOW = 1
    GARMENT = 2
    GARMENT_SHADE = 3
    GARMENT_OUTLINE = 4
    GARMENT_FOLD = 5
    SKIN = 6
    SKIN_SHADE = 7
    SKIN_OUTLINE = 8
    SKIN_FOLD = 9
    HAIR = 10
    HAIR_SHADE = 11
    HAIR_OUTLINE = 12
    HAIR_FOLD = 13
    BASE = 14
    BASE_SHADE = 15
    BASE_OUTLINE = 16
    BASE_FOLD = 17


def inks_of(color: str) -> Inks:
    """Return the inks of a garment of this colour, one of `COLORS`."""
    return _SPECIAL.get(color) or _inks(COLORS[color])


def tones(color: str, background: str, skin: int) -> NDArray[np.uint8]:
    """Return the colour of every `Tone`, (256, 1, 3) for OpenCV's lookup; values beyond the last tone are black."""
    behind = BACKGROUNDS[background]
    rows = [behind, _darker(behind, 0.9)]
    for inks in (inks_of(color), _inks(SKINS[skin]), _inks(_HAIR), _inks(_BASE)):
        rows.extend(inks)
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(rows), 0] = rows
    return table


def _inks(color: Rgb) -> Inks:
    return Inks(color, _darker(color, 0.87), _darker(color, 0.5), _darker(color, 0.68))


def _darker(color: Rgb, share: float) -> Rgb:
    red, green, blue = (round(channel * share) for channel in color)
    return red, green, blue
