"""Pictures drawn by code with a known truth: what share of each pixel is subject, and what colour that has."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Cutout", "bottle", "mug", "person", "shirt_on_bokeh"]

Floats = NDArray[np.float32]
Size = tuple[int, int]

_FINER = 4


@dataclass(frozen=True)
class Cutout:
    """`image` shows `colours` x `share` before a background."""

    image: Image.Image
    share: Floats
    colours: Floats

    @property
    def edge(self) -> NDArray[np.bool_]:
        """The pixels that are mixed."""
        return (self.share > 0.02) & (self.share < 0.98)

    def on(self, colour: tuple[int, int, int]) -> Floats:
        """How the subject looks before a plain colour."""
        share = self.share[..., None]
        return np.asarray(self.colours * share + np.float32(colour) * (1 - share), np.float32)


def bottle(size: Size = (192, 256), *, noise: float = 1.5) -> Cutout:
    """Dark green with a pale label, in a studio with a fall-off of light, on a soft shadow."""
    shape = _Shape(size)
    shape.rectangle(0.35, 0.35, 0.65, 0.88)
    shape.ellipse(0.5, 0.35, 0.15, 0.1)
    shape.rectangle(0.44, 0.12, 0.56, 0.3)
    _, y = _grid(size)
    colours = _texture(size, 1, (30, 90, 60), 6)
    colours[(y > 0.5) & (y < 0.72)] = (235, 225, 200)
    colours[y < 0.28] = (170, 40, 40)
    background = _studio(size, (246, 246, 248), (200, 202, 208), noise)
    return _cutout(shape.share(), colours, _shadowed(background, 0.5, 0.89, 0.25, 0.03))


def mug(size: Size = (192, 192)) -> Cutout:
    """Blue, with a handle that the backdrop shows through, before mottled paper."""
    shape = _Shape(size)
    shape.rectangle(0.25, 0.3, 0.6, 0.8)
    shape.ring(0.62, 0.55, 0.14, 0.05)
    background = _texture(size, 5, (226, 214, 190), 3, blur=8)
    return _cutout(shape.share(), _texture(size, 2, (60, 110, 190), 5), background)


def person(size: Size = (192, 256)) -> Cutout:
    """A bust in a striped shirt with hair that stands off, on the lower edge of a picture with a grey wall."""
    width, height = size
    shape = _Shape(size)
    shape.ellipse(0.5, 0.35, 0.15, 0.17)
    shape.ellipse(0.5, 1.0, 0.36, 0.42)
    shape.rectangle(0.44, 0.45, 0.56, 0.65)
    random = np.random.default_rng(0)
    for turn in np.linspace(np.pi, 2 * np.pi, 30):
        root = (0.5 + 0.15 * np.cos(turn), 0.35 + 0.17 * np.sin(turn))
        length, lean = random.uniform(0.04, 0.07), turn + random.normal(0, 0.3)
        shape.line(root, (root[0] + length * np.cos(lean) * height / width, root[1] + length * np.sin(lean)))
    x, y = _grid(size)
    colours = _texture(size, 3, (224, 180, 150), 3)
    colours[y > 0.58] = np.where((np.sin(x * 70) > 0)[..., None], (190, 60, 60), (235, 230, 225))[y > 0.58]
    outside_face = ((x - 0.5) / 0.15) ** 2 + ((y - 0.35) / 0.17) ** 2 > 0.9
    colours[((y < 0.3) | outside_face) & (y < 0.45)] = (60, 40, 30)
    return _cutout(shape.share(), colours, _studio(size, (190, 190, 195), (140, 142, 150), 2))


def shirt_on_bokeh(size: Size = (192, 192)) -> Cutout:
    """A red block before blurred leaves: no plain backdrop."""
    shape = _Shape(size)
    shape.rectangle(0.3, 0.25, 0.7, 0.85)
    background = _texture(size, 6, (90, 130, 80), 14, blur=10)
    return _cutout(shape.share(), _texture(size, 4, (190, 60, 60), 8), background)


class _Shape:
    """Coordinates are fractions of the picture."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._mask = np.zeros((size[1] * _FINER, size[0] * _FINER), np.uint8)

    def rectangle(self, left: float, top: float, right: float, bottom: float) -> None:
        cv2.rectangle(self._mask, self._at(left, top), self._at(right, bottom), 255, -1)

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> None:
        cv2.ellipse(self._mask, self._at(x, y), self._at(rx, ry), 0, 0, 360, 255, -1)

    def ring(self, x: float, y: float, radius: float, thickness: float) -> None:
        width = self._mask.shape[1]
        cv2.ellipse(self._mask, self._at(x, y), self._at(radius, radius), 0, -90, 90, 255, int(thickness * width))

    def line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        cv2.line(self._mask, self._at(*start), self._at(*end), 255, 3)

    def share(self) -> Floats:
        return cv2.resize(self._mask.astype(np.float32) / 255, self._size, interpolation=cv2.INTER_AREA)

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return int(x * self._mask.shape[1]), int(y * self._mask.shape[0])


def _cutout(share: Floats, colours: Floats, background: Floats) -> Cutout:
    colours = np.clip(colours, 0, 255)
    pixels = colours * share[..., None] + np.clip(background, 0, 255) * (1 - share[..., None])
    return Cutout(Image.fromarray(np.round(pixels).astype(np.uint8)), share, colours)


def _grid(size: Size) -> tuple[Floats, Floats]:
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    return x / size[0], y / size[1]


def _texture(size: Size, seed: int, base: tuple[int, int, int], amount: float, blur: float = 2) -> Floats:
    noise = np.random.default_rng(seed).normal(0, 1, (size[1], size[0], 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return np.asarray(np.float32(base) + amount * smooth / smooth.std(), np.float32)


def _studio(size: Size, light: tuple[int, int, int], dark: tuple[int, int, int], noise: float) -> Floats:
    x, y = _grid(size)
    fall_off = np.clip(np.hypot(x - 0.5, y - 0.45) / 0.8, 0, 1)[..., None]
    grain = np.random.default_rng(9).normal(0, noise, (size[1], size[0], 1))
    return np.asarray(np.float32(light) * (1 - fall_off) + np.float32(dark) * fall_off + grain, np.float32)


def _shadowed(background: Floats, x: float, y: float, rx: float, ry: float) -> Floats:
    across, down = _grid((background.shape[1], background.shape[0]))
    depth = 0.45 * np.exp(-(((across - x) / rx) ** 2 + ((down - y) / ry) ** 2))
    return np.asarray(background * (1 - depth)[..., None], np.float32)
