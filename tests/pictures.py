"""Pictures drawn by code, for tests and the gallery: nobody's likeness, and the same pixels for the same arguments.

Sizes are (width, height) in pixels; every picture is RGB. `seed` varies colours and textures, and stays in its frame.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["figure_mask", "full_figure", "portrait", "product", "scene", "size_of"]

Size = tuple[int, int]
Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]]

_FINER = 2
"""Everything is drawn this many times larger and then reduced, which makes its edges smooth."""
_SHIFT = 6
"""Bits behind the point of the coordinates that OpenCV draws with."""

_SKINS: tuple[Colour, ...] = ((228, 188, 164), (205, 160, 130), (240, 205, 182), (188, 140, 108))
_HAIRS: tuple[Colour, ...] = ((58, 40, 30), (34, 28, 28), (96, 64, 38), (70, 44, 34))
_IRISES: tuple[Colour, ...] = ((70, 96, 122), (74, 58, 40), (72, 104, 72), (90, 66, 48))
_CLOTHES: tuple[Colour, ...] = ((178, 60, 62), (58, 96, 150), (70, 122, 92), (196, 148, 66))


def portrait(size: Size = (512, 512), seed: int = 0) -> Image.Image:
    """A face from the front, with shoulders, before a soft grey wall. It fills about half of the shorter side."""
    canvas = _Canvas(size, seed)
    side = min(size)
    canvas.gradient((196, 198, 204), (160, 164, 174))
    _bust(canvas, (size[0] / 2, size[1] * 0.47), side * 0.29)
    return canvas.image()


def full_figure(size: Size = (512, 768), seed: int = 0) -> Image.Image:
    """A standing person in a striped shirt and trousers of denim, before a plain light backdrop."""
    canvas = _Canvas(size, seed)
    canvas.gradient((236, 236, 238), (226, 226, 229))
    _person(canvas)
    return canvas.image()


def figure_mask(size: Size = (512, 768), seed: int = 0) -> Image.Image:
    """Where `full_figure` of these arguments shows the person: mode L, white inside."""
    canvas = _Canvas(size, seed)
    _person(canvas)
    return canvas.drawn()


def product(size: Size = (512, 512), seed: int = 0) -> Image.Image:
    """A striped T-shirt with a round print, laid flat on plain white."""
    canvas = _Canvas(size, seed)
    canvas.gradient((248, 248, 248), (242, 242, 243))
    unit = min(size) / 2
    at = _around((size[0] / 2, size[1] / 2), unit)
    colour = _pick(canvas, _CLOTHES)
    canvas.polygon(at(_SHIRT), _darker(colour, 0.86), paint=_stripes(colour, unit * 0.06))
    for fold in (-0.28, 0.05, 0.3):
        canvas.polygon(at([(fold, -0.4), (fold + 0.03, -0.4), (fold + 0.1, 0.75), (fold + 0.05, 0.75)]),
                       _darker(colour, 0.6), opacity=0.35, soft=unit * 0.02)  # fmt: skip
    canvas.ellipse(at([(0, 0)])[0], unit * 0.2, unit * 0.2, (244, 238, 226))
    canvas.ellipse(at([(0, 0)])[0], unit * 0.13, unit * 0.13, _darker(colour, 0.5))
    canvas.ellipse(at([(0, -0.66)])[0], unit * 0.17, unit * 0.045, _darker(colour, 0.45))
    return canvas.image()


def scene(size: Size = (768, 512), seed: int = 0) -> Image.Image:
    """An empty landscape: sky with a sun, hills, a meadow and a house, and no person."""
    canvas = _Canvas(size, seed)
    width, height = size
    canvas.gradient((92, 148, 214), (214, 226, 236))
    canvas.ellipse((width * 0.78, height * 0.2), height * 0.08, height * 0.08, (255, 244, 206), soft=height * 0.01)
    for base, colour in ((0.52, (106, 134, 128)), (0.62, (84, 122, 84)), (0.74, (112, 148, 70))):
        x = np.linspace(0, width, 40)
        y = height * (base + 0.04 * np.sin(x / width * canvas.random.uniform(6, 11) + canvas.random.uniform(0, 6)))
        ground = [*zip(x.tolist(), y.tolist(), strict=True), (width, height), (0, height)]
        canvas.polygon(ground, colour, paint=_speckles(colour, canvas.random, 9))
    at = _around((width * 0.3, height * 0.66), height * 0.14)
    canvas.polygon(at([(-0.8, -0.5), (0.8, -0.5), (0.8, 0.7), (-0.8, 0.7)]), (222, 208, 184))
    canvas.polygon(at([(-1, -0.45), (0, -1.2), (1, -0.45)]), (150, 70, 54))
    canvas.polygon(at([(-0.2, 0), (0.2, 0), (0.2, 0.7), (-0.2, 0.7)]), (92, 62, 44))
    return canvas.image()


def size_of(file: str | Path) -> Size:
    """The size of the picture in a file."""
    with Image.open(file) as image:
        return image.size


Paint = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""A texture: x and y in pixels, both (height, width), to RGB (height, width, 3)."""


class _Canvas:
    """RGB as floats, and beside it what was covered by shapes."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self._shape = (size[1] * _FINER, size[0] * _FINER)
        self._pixels = np.zeros((*self._shape, 3), np.float32)
        self._covered = np.zeros(self._shape, np.float32)

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Fill the whole canvas from top to bottom."""
        share = np.linspace(0, 1, self._shape[0], dtype=np.float32)[:, None, None]
        self._pixels[:] = np.float32(top) * (1 - share) + np.float32(bottom) * share

    def ellipse(
        self,
        centre: tuple[float, float],
        rx: float,
        ry: float,
        colour: Colour,
        *,
        soft: float = 0,
        opacity: float = 1,
        paint: Paint | None = None,
    ) -> None:
        turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        outline = list(zip(centre[0] + rx * np.cos(turn), centre[1] + ry * np.sin(turn), strict=True))
        self.polygon(outline, colour, soft=soft, opacity=opacity, paint=paint)

    def polygon(
        self, points: Points, colour: Colour, *, soft: float = 0, opacity: float = 1, paint: Paint | None = None
    ) -> None:
        """Cover the polygon; `soft` is the sigma of its edge in pixels."""
        corners = np.asarray(points, np.float64) * _FINER
        area = self._area(corners, margin=4 * soft * _FINER + 2)
        mask = np.zeros(self._covered[area].shape, np.uint8)
        inside = (corners - (area[1].start, area[0].start)) * 2**_SHIFT
        cv2.fillPoly(mask, [np.round(inside).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=_SHIFT)
        if soft > 0:
            mask = cv2.GaussianBlur(mask, (0, 0), soft * _FINER)
        share = mask.astype(np.float32) * (opacity / 255)
        ink = np.float32(colour) if paint is None else _painted(paint, area)
        self._pixels[area] += share[..., None] * (ink - self._pixels[area])
        self._covered[area] = np.maximum(self._covered[area], share)

    def _area(self, corners: NDArray[np.float64], margin: float) -> tuple[slice, slice]:
        """Rows and columns that a shape can touch, inside the canvas."""
        low = np.maximum(np.floor(corners.min(axis=0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(axis=0) + margin), self._shape[::-1]).astype(int)
        return slice(low[1], max(high[1], low[1] + 1)), slice(low[0], max(high[0], low[0] + 1))

    def image(self) -> Image.Image:
        return _reduced(self._pixels, self.size)

    def drawn(self) -> Image.Image:
        return _reduced(self._covered * 255, self.size)


def _painted(paint: Paint, area: tuple[slice, slice]) -> NDArray[np.float32]:
    y, x = np.mgrid[area].astype(np.float32) / _FINER
    return paint(x, y)


def _reduced(pixels: NDArray[np.float32], size: Size) -> Image.Image:
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Image.fromarray(np.clip(np.round(small), 0, 255).astype(np.uint8))


def _around(centre: tuple[float, float], unit: float) -> Callable[[Points], list[tuple[float, float]]]:
    """Points given relative to a centre, in units, as pixels."""
    return lambda points: [(centre[0] + x * unit, centre[1] + y * unit) for x, y in points]


def _pick(canvas: _Canvas, colours: tuple[Colour, ...]) -> Colour:
    return colours[canvas.seed % len(colours)]


def _darker(colour: Colour, share: float) -> Colour:
    return (colour[0] * share, colour[1] * share, colour[2] * share)


def _stripes(colour: Colour, period: float) -> Paint:
    """Horizontal stripes with the fine ribs of a knitted fabric."""

    def paint(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        wide = 0.5 + 0.5 * np.tanh(4 * np.sin(y * (2 * np.pi / period)))
        ribs = 0.06 * np.sin(x * (2 * np.pi / max(period / 5, 3)))
        return np.asarray(np.float32(colour) * (0.72 + 0.4 * wide + ribs)[..., None], np.float32)

    return paint


def _twill(colour: Colour, period: float) -> Paint:
    """The diagonal weave of denim."""

    def paint(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        weave = 0.12 * np.sin((x + y) * (2 * np.pi / period)) + 0.05 * np.sin((x - 2 * y) * (2 * np.pi / period))
        return np.asarray(np.float32(colour) * (1 + weave)[..., None], np.float32)

    return paint


def _speckles(colour: Colour, random: np.random.Generator, amount: float) -> Paint:
    """One colour with fine grain of this standard deviation."""

    def paint(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        grain = cv2.GaussianBlur(random.standard_normal(x.shape, np.float32), (0, 0), 1.5) * (amount * 5)
        return np.asarray(np.float32(colour) + grain[..., None], np.float32)

    return paint


_SHIRT: Points = (
    (-0.2, -0.7), (-0.42, -0.62), (-0.86, -0.26), (-0.64, -0.02), (-0.45, -0.2), (-0.47, 0.76), (0.47, 0.76),
    (0.45, -0.2), (0.64, -0.02), (0.86, -0.26), (0.42, -0.62), (0.2, -0.7), (0.1, -0.63), (-0.1, -0.63),
)  # fmt: skip


def _bust(canvas: _Canvas, centre: tuple[float, float], unit: float) -> None:
    """Head and shoulders; `unit` is half the height of the face in pixels."""
    at = _around(centre, unit)
    skin, cloth = _pick(canvas, _SKINS), _pick(canvas, _CLOTHES)
    canvas.ellipse(at([(0, -0.18)])[0], unit * 0.98, unit * 1.12, _pick(canvas, _HAIRS), soft=unit * 0.03)
    canvas.polygon(
        at([(-0.36, 0.6), (0.36, 0.6), (0.44, 1.5), (0, 1.62), (-0.44, 1.5)]), _darker(skin, 0.8), soft=unit * 0.02
    )
    shoulders = [(-0.5, 1.28), (-1.5, 1.6), (-1.75, 4), (1.75, 4), (1.5, 1.6), (0.5, 1.28), (0, 1.55)]
    canvas.polygon(at(shoulders), cloth, paint=_stripes(cloth, max(unit * 0.16, 4)))
    _face(canvas, centre, unit)


def _face(canvas: _Canvas, centre: tuple[float, float], unit: float) -> None:
    """A face from the front, lit from the upper left; `unit` is half its height in pixels."""
    at = _around(centre, unit)
    skin, hair = _pick(canvas, _SKINS), _pick(canvas, _HAIRS)
    canvas.ellipse(at([(0, 0)])[0], unit * 0.76, unit, skin, soft=unit * 0.012, paint=_speckles(skin, canvas.random, 2))
    canvas.ellipse(at([(0.42, 0.2)])[0], unit * 0.24, unit * 0.62, _darker(skin, 0.78), soft=unit * 0.12, opacity=0.55)
    canvas.ellipse(at([(-0.16, -0.45)])[0], unit * 0.3, unit * 0.2, (255, 240, 228), soft=unit * 0.12, opacity=0.4)
    for side in (-1, 1):
        blush = (skin[0], skin[1] * 0.84, skin[2] * 0.82)
        canvas.ellipse(at([(side * 0.4, 0.28)])[0], unit * 0.16, unit * 0.12, blush, soft=unit * 0.07, opacity=0.5)
        _eye(canvas, at([(side * 0.32, -0.1)])[0], unit)
        brow = [(0.14, -0.3), (0.34, -0.38), (0.52, -0.3), (0.5, -0.26), (0.34, -0.32), (0.15, -0.24)]
        canvas.polygon(at([(side * x, y) for x, y in brow]), hair, soft=unit * 0.015, opacity=0.9)
    _nose_and_mouth(canvas, centre, unit)
    fringe = [(-0.8, -0.2), (-0.78, -0.75), (-0.3, -1.08), (0.3, -1.08), (0.78, -0.75), (0.8, -0.2), (0.66, -0.5),
              (0.36, -0.72), (-0.1, -0.78), (-0.5, -0.66), (-0.7, -0.42)]  # fmt: skip
    canvas.polygon(at(fringe), hair, soft=unit * 0.02)


def _eye(canvas: _Canvas, centre: tuple[float, float], unit: float) -> None:
    at = _around(centre, unit)
    skin = _pick(canvas, _SKINS)
    canvas.ellipse(centre, unit * 0.22, unit * 0.15, _darker(skin, 0.55), soft=unit * 0.06, opacity=0.75)
    almond = [(-0.16, 0.01), (-0.08, -0.055), (0.02, -0.07), (0.1, -0.045), (0.16, 0.01), (0.06, 0.055), (-0.06, 0.055)]
    canvas.polygon(at(almond), (240, 238, 234), soft=unit * 0.008)
    canvas.ellipse(centre, unit * 0.066, unit * 0.066, _pick(canvas, _IRISES))
    canvas.ellipse(centre, unit * 0.034, unit * 0.034, (12, 10, 10))
    canvas.ellipse(at([(-0.025, -0.028)])[0], unit * 0.014, unit * 0.014, (255, 255, 255))
    lid = [(-0.18, 0.015), (-0.08, -0.085), (0.02, -0.1), (0.11, -0.075), (0.18, 0.015), (0.1, -0.045), (0.02, -0.066),
           (-0.08, -0.052)]  # fmt: skip
    canvas.polygon(at(lid), (40, 28, 24), soft=unit * 0.008)


def _nose_and_mouth(canvas: _Canvas, centre: tuple[float, float], unit: float) -> None:
    at = _around(centre, unit)
    skin = _pick(canvas, _SKINS)
    canvas.polygon(at([(0.05, -0.15), (0.13, 0.3), (0.03, 0.34)]), _darker(skin, 0.72), soft=unit * 0.03, opacity=0.6)
    canvas.polygon(at([(-0.05, -0.2), (0.02, -0.2), (0.03, 0.24), (-0.06, 0.24)]), (255, 238, 224), soft=unit * 0.03,
                   opacity=0.55)  # fmt: skip
    canvas.ellipse(at([(0, 0.36)])[0], unit * 0.15, unit * 0.035, _darker(skin, 0.6), soft=unit * 0.02, opacity=0.8)
    for side in (-1, 1):
        canvas.ellipse(at([(side * 0.075, 0.34)])[0], unit * 0.032, unit * 0.018, (70, 38, 32), soft=unit * 0.008)
    lips = (182, 92, 88)
    upper = [(-0.27, 0.58), (-0.08, 0.52), (0, 0.545), (0.08, 0.52), (0.27, 0.58), (0, 0.6)]
    lower = [(-0.27, 0.58), (0, 0.6), (0.27, 0.58), (0.14, 0.675), (-0.14, 0.675)]
    canvas.polygon(at(upper), _darker(lips, 0.85), soft=unit * 0.012)
    canvas.polygon(at(lower), lips, soft=unit * 0.012)
    canvas.polygon(at([(-0.27, 0.575), (0, 0.592), (0.27, 0.575), (0, 0.612)]), (84, 34, 34), soft=unit * 0.008)
    canvas.ellipse(at([(0, 0.75)])[0], unit * 0.16, unit * 0.03, _darker(skin, 0.75), soft=unit * 0.03, opacity=0.6)


def _person(canvas: _Canvas) -> None:
    """Centred, from 6 to 95 percent of the height."""
    width, height = canvas.size
    unit = min(height, width * 2.2) * 0.057
    head = (width / 2, height * 0.5 - unit * 6.55)
    at = _around(head, unit)
    skin, cloth = _pick(canvas, _SKINS), _pick(canvas, _CLOTHES)
    denim = (62, 78, 112)
    for side in (-1, 1):
        leg = [(0.02, 6.3), (1.35, 6.3), (1.15, 14.2), (0.4, 14.2)]
        canvas.polygon(at([(side * x, y) for x, y in leg]), denim, paint=_twill(denim, max(unit * 0.12, 3)))
        canvas.ellipse(at([(side * 0.85, 14.35)])[0], unit * 0.62, unit * 0.3, (48, 40, 38))
        arm = [(1.62, 2.6), (2.25, 3.1), (2.5, 6.7), (2.0, 6.8), (1.7, 4.4)]
        canvas.polygon(at([(side * x, y) for x, y in arm]), skin, paint=_speckles(skin, canvas.random, 2))
        canvas.ellipse(at([(side * 2.25, 7.0)])[0], unit * 0.3, unit * 0.42, skin)
    canvas.ellipse(at([(0, -0.18)])[0], unit * 0.98, unit * 1.12, _pick(canvas, _HAIRS), soft=unit * 0.03)
    canvas.polygon(at([(-0.36, 0.6), (0.36, 0.6), (0.44, 1.5), (0, 1.65), (-0.44, 1.5)]), _darker(skin, 0.8))
    shirt = [(-0.5, 1.3), (-1.6, 1.65), (-2.3, 3.4), (-1.72, 3.8), (-1.5, 3.3), (-1.4, 6.5), (1.4, 6.5), (1.5, 3.3),
             (1.72, 3.8), (2.3, 3.4), (1.6, 1.65), (0.5, 1.3), (0, 1.6)]  # fmt: skip
    canvas.polygon(at(shirt), cloth, paint=_stripes(cloth, max(unit * 0.3, 5)))
    canvas.ellipse(at([(0.6, 2.9)])[0], unit * 0.28, unit * 0.28, (244, 238, 226))
    _face(canvas, head, unit)
