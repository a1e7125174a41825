"""Scenes of the demo data set: garments in named colours in front of named backgrounds, rendered as flat illustrations.

A mirrored image shows another scene: a pose to the right becomes one to the left.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.demo_model.body import Body, Outline, Stance, aside, body, ellipse, limb, smooth, symmetric
from tools.demo_model.garments import CUTS, Cut, Layer
from tools.demo_model.palette import BACKGROUNDS, COLORS, SKINS, Tone, tones

__all__ = [
    "GARMENTS", "NEW_GARMENT", "POSES", "PRODUCT_POSES", "WEARERS", "Scene", "combination_is_held_out",
    "labels", "random_scenes", "render",
]  # fmt: skip

NEW_GARMENT = "kimono"
"""A garment for teaching by a LoRA; `random_scenes` has it only if asked for."""
GARMENTS: tuple[str, ...] = tuple(name for name in CUTS if name != NEW_GARMENT)
WEARERS: tuple[str, ...] = ("woman", "man")
"""A woman has longer hair; dresses and skirts are worn by women."""
_WOMENS = frozenset({"dress", "skirt"})

_STANCES: dict[str, Stance] = {
    "front": Stance(((16, 9), (16, 9)), (5, 5)),
    "left": Stance(((12, 6), (10, -6)), (4, 4), turn=-1),
    "right": Stance(((10, -6), (12, 6)), (4, 4), turn=1),
    "arms raised": Stance(((142, 165), (142, 165)), (6, 6)),
    "walking": Stance(((34, 4), (26, 40)), (14, 12), turn=1),
}
POSES: tuple[str, ...] = tuple(_STANCES)
"""Poses of a figure; `left` and `right` are those of the image."""
PRODUCT_POSES: tuple[str, ...] = ("front", "left", "right")

_LAID_OUT = {"t-shirt": (42, 42), "shirt": (34, 30), "hoodie": (20, 12), "coat": (22, 16), "kimono": (86, 86)}
"""Angles of the sleeves of a garment without wearer, in degrees."""

_LEGS_APART = {"trousers": 7, "shorts": 13}
_SPREAD = {"kimono": (44, 40)}
"""Least angles of the arms from the body, for garments that need it, in degrees."""

_SHIFT = 4
"""Fractional bits of OpenCV's coordinates."""
_OUTLINE_WIDTH, _FOLD_WIDTH, _SHADE_WIDTH = 0.019, 0.0085, 0.022
"""Shares of the image's side."""
_TURNED = 0.86
"""Width of a figure that is turned aside, relative to its front."""
_STOUT = 1.17
"""Factor of the figure's width: a small image needs bold shapes."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of one image of the demo data set.

    Attributes:
        garment: One of `GARMENTS`, or `NEW_GARMENT`.
        color: One of `COLORS`.
        background: One of `BACKGROUNDS`.
        pose: One of `POSES`, or of `PRODUCT_POSES` without wearer.
        wearer: One of `WEARERS`; None shows the garment alone.
        skin: Index of the wearer's skin colour in `SKINS`.
        x, y: Offset to the right and down, as shares of the image's side.
        scale: Size; 1 is usual.
    """

    garment: str
    color: str
    background: str
    pose: str = "front"
    wearer: str | None = None
    skin: int = 0
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0


def combination_is_held_out(garment: str, color: str, background: str) -> bool:
    """Return whether this combination, one of ten, is held out of training, so that tests can ask for something new."""
    return hashlib.blake2s(f"{garment}/{color}/{background}".encode()).digest()[0] % 10 == 0


def random_scenes(seed: int, count: int, held_out: bool = False, garments: Sequence[str] = GARMENTS) -> Iterator[Scene]:
    """Random scenes, the same for the same arguments.

    A garment never has its background's colour. Training scenes and held-out scenes share no combination of garment,
    colour and background.
    """
    random = np.random.default_rng((seed, int(held_out)))
    made = 0
    while made < count:
        scene = _scene(random, garments)
        clash = scene.color == scene.background
        if not clash and combination_is_held_out(scene.garment, scene.color, scene.background) == held_out:
            made += 1
            yield scene


def _scene(random: np.random.Generator, garments: Sequence[str]) -> Scene:
    garment = garments[int(random.integers(len(garments)))]
    wearer = None
    if random.random() < 0.5:
        wearer = "woman" if garment in _WOMENS else WEARERS[random.integers(len(WEARERS))]
    poses = PRODUCT_POSES if wearer is None else POSES
    return Scene(
        garment,
        color=list(COLORS)[random.integers(len(COLORS))],
        background=list(BACKGROUNDS)[random.integers(len(BACKGROUNDS))],
        # Half of all images are frontal, as expected of prompts that name no pose.
        pose="front" if random.random() < 0.5 else poses[1 + random.integers(len(poses) - 1)],
        wearer=wearer,
        skin=int(random.integers(len(SKINS))),
        x=round(float(random.uniform(-0.03, 0.03)), 4),
        y=round(float(random.uniform(-0.02, 0.02)), 4),
        scale=round(float(random.uniform(0.94, 1.06)), 4),
    )


def render(scene: Scene, size: int) -> Image.Image:
    """Render the scene as an RGB image of `size` by `size` pixels; it looks the same at every size.

    Raises:
        ValueError: the size is not from 64 to 1024.

    Example:
        render(Scene("dress", "red", "white"), 256).save("dress.png")
    """
    finer = _finer(size)
    fine = cv2.applyColorMap(labels(scene, size * finer), tones(scene.color, scene.background, scene.skin))
    return Image.fromarray(cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA))


def _finer(size: int) -> int:
    """Return the factor of supersampling, which makes edges smooth."""
    if not 64 <= size <= 1024:
        raise ValueError(f"`size` must be from 64 to 1024 pixels, not {size}.")
    return max(3 if size <= 512 else 2, 512 // size)


def labels(scene: Scene, size: int) -> NDArray[np.uint8]:
    """Return the `Tone` of each pixel, (size, size), without smooth edges."""
    layers, shadow = _layers(scene.garment, scene.pose, scene.wearer)
    paper = _Canvas(size, _placement(scene, layers))
    paper.patch(shadow, Tone.SHADOW)
    for layer in layers:
        paper.add(layer)
    return paper.pixels


@lru_cache(maxsize=256)
def _layers(garment: str, pose: str, wearer: str | None) -> tuple[tuple[Layer, ...], Outline]:
    """Return all layers, bottom first, and the shadow on the floor."""
    if wearer is None:
        layers = _product(garment, pose)
        points = np.concatenate([part for layer in layers for part in layer.parts])
        left, right, bottom = points[:, 0].min(), points[:, 0].max(), points[:, 1].max()
        width = (right - left) / 2
        return tuple(layers), ellipse(((left + right) / 2, bottom + 0.02 * width / 0.12), (width * 0.9, width * 0.09))
    stance = _STANCES[pose]
    least = _SPREAD.get(garment)
    if least is not None:
        left, right = ((max(upper, least[0]), max(fore, least[1])) for upper, fore in stance.arms)
        stance = replace(stance, arms=(left, right))
    figure = body(stance)
    return tuple(_worn(garment, CUTS[garment](figure), figure, wearer)), ellipse((0.0, 0.985), (0.2, 0.026))


def _product(garment: str, pose: str) -> list[Layer]:
    turn = {"front": 0, "left": -1, "right": 1}[pose]
    angles = _LAID_OUT.get(garment, (0, 0))
    spread = _LEGS_APART.get(garment, 4)
    cut = CUTS[garment](body(Stance((angles, angles), (spread, spread), turn)))
    layers = [*cut.behind, *(cut.sleeves or ()), *cut.middle]
    if cut.opening is not None:
        layers.append(Layer([], patches=[(cut.opening, Tone.GARMENT_OUTLINE)]))
    return layers + cut.over


def _worn(garment: str, cut: Cut, figure: Body, wearer: str) -> list[Layer]:
    sides = []
    for index, arm in enumerate(figure.arms):
        side = [Layer([_shoulder(arm, 0.03), limb(arm, (0.06, 0.052, 0.042)), _hand(arm)], Tone.SKIN)]
        if cut.sleeves is not None:
            side.append(cut.sleeves[index])
        elif garment != "dress":
            side.append(Layer([_shoulder(arm, 0.036), limb(arm, (0.072, 0.078, 0.08), 0.42)], Tone.BASE))
        sides.append(side)
    # A turned figure has one arm in front of the body; the other is behind it.
    near = [] if figure.turn == 0 else sides.pop(1 if figure.turn < 0 else 0)
    layers = [*cut.behind, *_hair_behind(cut, figure, wearer)]
    layers += [layer for side in sides for layer in side]
    layers += [*_dressed(cut, figure, Tone.SKIN if garment == "dress" else Tone.BASE), *cut.middle, *near]
    return [*layers, *_head(cut, figure, wearer), *cut.over]


def _shoulder(arm: Outline, radius: float) -> Outline:
    return ellipse((float(arm[0, 0]), float(arm[0, 1])), (radius, radius))


def _hand(arm: Outline) -> Outline:
    return ellipse((float(arm[2, 0]), float(arm[2, 1])), (0.026, 0.028))


def _dressed(cut: Cut, figure: Body, top: Tone) -> list[Layer]:
    """Return legs, feet and the clothes other than the garment."""
    legs = [limb(leg, (0.09, 0.078, 0.056)) for leg in figure.legs]
    feet = []
    for side, leg in zip((-1, 1), figure.legs, strict=True):
        feet.append(ellipse((leg[2, 0] + 0.022 * (figure.turn or side), 0.963), (0.05, 0.024)))
    seat = symmetric([(0.088, 0.40), (0.102, 0.49), (0.098, 0.53), (0.0, 0.55)])
    torso = smooth(symmetric([
        (0.04, 0.206), (0.04, 0.206), (0.09, 0.22), (0.104, 0.25), (0.1, 0.31), (0.086, 0.40), (0.104, 0.50),
        (0.1, 0.53), (0.0, 0.54),
    ]))  # fmt: skip
    lower = [Layer([*legs, seat], Tone.SKIN if cut.bare_legs else Tone.BASE)]
    return [Layer(feet, Tone.HAIR), *lower, Layer([torso], top)]


def _hair_behind(cut: Cut, figure: Body, wearer: str) -> list[Layer]:
    if cut.hooded or wearer != "woman":
        return []
    bob = smooth(symmetric([
        (0.0, 0.005), (0.06, 0.01), (0.096, 0.07), (0.1, 0.15), (0.108, 0.195), (0.108, 0.195), (0.0, 0.2),
    ]))  # fmt: skip
    return [Layer([aside(bob, -0.014 * figure.turn)], Tone.HAIR)]


def _head(cut: Cut, figure: Body, wearer: str) -> list[Layer]:
    if cut.hooded and cut.opening is not None:
        return [Layer([cut.opening], Tone.SKIN)]
    opening = [] if cut.opening is None else [(cut.opening, Tone.SKIN)]
    neck = Layer([], patches=[*opening, (symmetric([(0.028, 0.16), (0.03, 0.222)]), Tone.SKIN_SHADE)])
    shift = figure.turn * 0.012
    face = Layer([ellipse((shift, 0.106), (0.07, 0.084))], Tone.SKIN)
    fringe = smooth(np.array([
        (-0.076, 0.10), (-0.076, 0.05), (-0.05, 0.012), (0.0, 0.002), (0.05, 0.012), (0.076, 0.05), (0.076, 0.10),
        (0.064, 0.078), (0.05 if figure.turn >= 0 else -0.02, 0.056), (-0.02 if figure.turn >= 0 else -0.05, 0.062),
        (-0.064, 0.08),
    ]))  # fmt: skip
    return [neck, face, Layer([aside(fringe, shift * 0.6)], Tone.HAIR)]


def _placement(scene: Scene, layers: Sequence[Layer]) -> NDArray[np.float64]:
    """Return the transform from the body's measures to shares of the image's side, (2, 3)."""
    turn = {"left": -1, "right": 1}.get(scene.pose, 0)
    wide = _TURNED if turn else 1.0
    if scene.wearer is not None:
        bust = scene.garment == "hat"
        side, middle = (1.45, (0.0, 0.18)) if bust else (0.83, (0.0, 0.49))
        matrix = np.array([[wide * _STOUT, 0.0], [0.0, 1.0]])
    else:
        # Off-centre and slightly rotated, as if seen from above a table.
        matrix = np.array([[wide, 0.06 * turn], [0.16 * turn, 1.0]])
        points = np.concatenate([part for layer in layers for part in layer.parts]) @ matrix.T
        low, high = points.min(axis=0), points.max(axis=0)
        side = 0.70 / float((high - low).max())
        middle = tuple(np.linalg.solve(matrix, (low + high) / 2))
    matrix = matrix * side * scene.scale
    place = np.array((0.5 + scene.x, 0.5 + scene.y)) - matrix @ np.array(middle)
    return np.hstack([matrix, place[:, None]])


class _Canvas:
    """A canvas of tones."""

    def __init__(self, size: int, placement: NDArray[np.float64]) -> None:
        self.pixels = np.zeros((size, size), np.uint8)
        self._size = size
        self._matrix = placement[:, :2].T * size * (1 << _SHIFT)
        self._offset = (placement[:, 2] * size - 0.5) * (1 << _SHIFT)

    def add(self, layer: Layer) -> None:
        parts = [self._placed(part) for part in layer.parts]
        if parts:
            cv2.polylines(
                self.pixels, parts, True, layer.tone + 2, max(1, round(_OUTLINE_WIDTH * self._size)), shift=_SHIFT
            )
            self._fill(parts, layer.tone)
        for polygon, tone in layer.patches:
            self.patch(polygon, tone)
        if layer.folds:
            width = max(1, round(_FOLD_WIDTH * self._size))
            lines = [self._placed(line) for line in layer.folds]
            cv2.polylines(self.pixels, lines, False, layer.tone + 3, width, shift=_SHIFT)

    def patch(self, polygon: Outline, tone: Tone) -> None:
        cv2.fillPoly(self.pixels, [self._placed(polygon)], int(tone), shift=_SHIFT)

    def _fill(self, parts: Sequence[NDArray[np.int32]], tone: Tone) -> None:
        """Fill the parts, with a shade along the right side, away from the light."""
        corners = np.concatenate(parts) >> _SHIFT
        start = np.clip(corners.min(axis=0), 0, self._size - 1)
        end = np.clip(corners.max(axis=0) + 2, 0, self._size)
        shown = self.pixels[start[1] : end[1], start[0] : end[0]]
        if shown.size == 0:
            return
        mask = np.zeros_like(shown)
        for part in parts:
            cv2.fillPoly(mask, [part - (start << _SHIFT).astype(np.int32)], 1, shift=_SHIFT)
        shift = min(max(1, round(_SHADE_WIDTH * self._size)), mask.shape[1])
        lit = np.zeros_like(mask)
        lit[:, :-shift] = mask[:, shift:]
        mask += mask & ~lit
        np.copyto(shown, mask + np.uint8(tone - 1), where=mask > 0)

    def _placed(self, outline: Outline) -> NDArray[np.int32]:
        return np.round(outline @ self._matrix + self._offset).astype(np.int32)
