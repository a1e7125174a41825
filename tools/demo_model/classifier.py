"""Classifies images of the demo data set by rules: garment, colour and background."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.demo_model.palette import BACKGROUNDS, COLORS, SKINS, Rgb, Tone, tones
from tools.demo_model.scenes import GARMENTS, NEW_GARMENT, POSES, PRODUCT_POSES, WEARERS, Scene, labels

__all__ = ["Classification", "classify"]

_SIDE = 128
"""Images are classified at this size."""
_BOX = 48
"""Silhouettes are compared at this size."""
_BORDER = 6
_UNIFORM = 0.7
"""Share of the border that must have one colour."""
_SAME_BACKGROUND = 14.0
_NEAR_BACKGROUND = 30.0
"""Distances in CIE L*a*b*: within one background; from a background to its nearest name."""
_LEAST_CONTRAST = 10.0
"""Least distance between the colours of garment and background, in the same measure."""
_LEAST_AREA = 0.012
"""Least share of the image that a garment covers."""
_LEAST_MATCH = 0.6
"""Least overlap of a silhouette with a garment's template."""

_SHADOW = np.float32(0.91)
"""Factor by which a shadow changes a colour in that space."""
_WEIGHTS: tuple[float, float, float] = (0.5, 0.35, 0.15)
_KERNEL, _WIDE_KERNEL = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Classification:
    """The recognized content of an image; None where it is uncertain.

    Attributes:
        garment: One of `scenes.GARMENTS`, or `scenes.NEW_GARMENT`.
        color: One of `palette.COLORS`: the colour of the garment, or of an unrecognized subject.
        background: One of `palette.BACKGROUNDS`.
        scores: For each garment, the best match of the silhouette, from 0 to 1; empty without a silhouette.
    """

    garment: str | None
    color: str | None
    background: str | None
    scores: Mapping[str, float] = field(default_factory=dict)


def classify(image: Image.Image) -> Classification:
    """Classify an image: nothing is recognized in noise, and only the background in an empty image.

    Images of the demo data set are square; others are padded by repeating their edges.
    """
    pixels = _squared(np.asarray(image.convert("RGB")))
    if len(pixels) != _SIDE:
        better = cv2.INTER_AREA if len(pixels) > _SIDE else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=better)
    lab = _lab(cv2.medianBlur(pixels, 3))
    background = _background(lab)
    if background is None:
        return Classification(None, None, None)
    name, behind = background
    best = Classification(None, None, name)
    best_score = 0.0
    nearest = _nearest(lab, behind)
    whole = _whole(nearest)
    for color, mask, weight in _candidates(nearest):
        match = _match(mask, whole)
        score = float(match.max()) * weight
        if score > best_score:
            best_score = score
            scores = _by_garment(match)
            garment = max(scores, key=lambda one: scores[one])
            found = scores[garment] >= _LEAST_MATCH
            best = Classification(garment if found else None, color, name, scores)
    return best


def _squared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    missing = max(height, width) - height, max(height, width) - width
    around = [(side // 2, side - side // 2) for side in missing]
    return np.pad(pixels, (*around, (0, 0)), mode="edge")


def _lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _lab_of(colors: list[Rgb]) -> NDArray[np.float32]:
    return _lab(np.array([colors], np.uint8)).reshape(-1, 3)


def _background(lab: NDArray[np.float32]) -> tuple[str, NDArray[np.float32]] | None:
    """Return the name and the colour of the background; None if it is not one named colour.

    The lower edge of the image may cut off a figure, so only the other three edges count.
    """
    border = np.concatenate([
        lab[:_BORDER].reshape(-1, 3), lab[:, :_BORDER].reshape(-1, 3), lab[:, -_BORDER:].reshape(-1, 3),
    ])  # fmt: skip
    middle = np.median(border, axis=0)
    if (np.linalg.norm(border - middle, axis=1) < _SAME_BACKGROUND).mean() < _UNIFORM:
        return None
    distances = np.linalg.norm(_lab_of(list(BACKGROUNDS.values())) - middle, axis=1)
    nearest = int(distances.argmin())
    return (list(BACKGROUNDS)[nearest], middle) if distances[nearest] < _NEAR_BACKGROUND else None


@lru_cache(maxsize=1)
def _prototypes() -> tuple[NDArray[np.float32], list[str]]:
    """Return the colours of the demo data set with the garment colour that each belongs to, or an ignored label."""
    colors: list[Rgb] = []
    names: list[str] = []
    for name in COLORS:
        table = tones(name, "white", 0)[:, 0]
        colors += [tuple(table[Tone.GARMENT]), tuple(table[Tone.GARMENT_SHADE])]
        names += [name, name]
    for skin in range(len(SKINS)):
        table = tones("red", "white", skin)[:, 0]
        colors += [tuple(table[tone]) for tone in (Tone.SKIN, Tone.SKIN_SHADE)]
        names += ["", ""]
    colors += [tuple(table[tone]) for tone in (Tone.HAIR, Tone.BASE, Tone.BASE_SHADE)]
    names += ["", "", ""]
    return _lab_of(colors), names


def _nearest(lab: NDArray[np.float32], behind: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return for each pixel the index of the closest prototype; an index beyond the prototypes is the background.

    Prototypes that look like the background do not count.
    """
    prototypes, _ = _prototypes()
    every = np.vstack([prototypes, behind[None], behind[None] * _SHADOW]).astype(np.float32)
    distance = (every**2).sum(axis=1) - 2 * lab.reshape(-1, 3) @ every.T
    distance[:, : len(prototypes)][:, np.linalg.norm(prototypes - behind, axis=1) < _LEAST_CONTRAST] = np.inf
    return np.asarray(distance.argmin(axis=1).reshape(lab.shape[:2]), np.intp)


def _whole(nearest: NDArray[np.intp]) -> Mask:
    """Return the mask of everything that is not background."""
    seen = cv2.morphologyEx((nearest < len(_prototypes()[1])).astype(np.uint8), cv2.MORPH_OPEN, _KERNEL)
    return _parts(cv2.morphologyEx(seen, cv2.MORPH_CLOSE, _WIDE_KERNEL))


def _candidates(nearest: NDArray[np.intp]) -> Iterator[tuple[str, Mask, float]]:
    """Yield for each possible colour of a garment: its mask, and its share of all such colours."""
    _, names = _prototypes()
    masks: dict[str, Mask] = {}
    for color in COLORS:
        of_color = np.array([*(name == color for name in names), False, False])
        mask = _parts(cv2.morphologyEx(of_color[nearest].astype(np.uint8), cv2.MORPH_OPEN, _KERNEL))
        if mask.mean() >= _LEAST_AREA:
            masks[color] = mask
    largest = max((mask.sum() for mask in masks.values()), default=1)
    for color, mask in masks.items():
        yield color, _closed(mask), float(mask.sum() / largest) ** 0.3


def _closed(mask: Mask) -> Mask:
    """Return the mask with its outline, closing the gaps of folds and a belt."""
    return np.asarray(cv2.morphologyEx(cv2.dilate(mask, _KERNEL), cv2.MORPH_CLOSE, _WIDE_KERNEL), np.uint8)


def _parts(mask: Mask) -> Mask:
    """Return the largest part and those that are not much smaller."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = areas >= 0.12 * areas.max()
    return np.asarray(kept[parts], np.uint8)


def _match(mask: Mask, whole: Mask) -> NDArray[np.float32]:
    """Return the match with each template, from 0 to 1: the garment's shape, its place on the wearer, the wearer's
    shape."""
    templates = _templates()
    overlaps = []
    for view, seen, areas in zip(_views(mask, whole), templates.views, templates.areas, strict=True):
        common = seen @ view
        overlaps.append(common / (areas + view.sum() - common))
    return np.asarray(np.tensordot(_WEIGHTS, np.stack(overlaps), 1), np.float32)


def _views(mask: Mask, whole: Mask) -> list[NDArray[np.float32]]:
    box, frame = cv2.boundingRect(mask), cv2.boundingRect(cv2.bitwise_or(mask, whole))
    return [_framed(mask, box), _framed(mask, frame), _framed(whole, frame)]


def _framed(mask: Mask, frame: Sequence[int]) -> NDArray[np.float32]:
    """Scale the content of the frame (left, top, width, height) to a square of `_BOX` pixels, keeping its
    proportions."""
    left, top, width, height = frame
    scale = (_BOX - 2) / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    part = mask[top : top + height, left : left + width].astype(np.float32)
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((_BOX, _BOX), np.float32)
    x, y = (_BOX - size[0]) // 2, (_BOX - size[1]) // 2
    square[y : y + size[1], x : x + size[0]] = part > 0.5
    return square.ravel()


@dataclass(frozen=True, slots=True)
class _Templates:
    views: NDArray[np.float32]
    areas: NDArray[np.float32]
    garments: list[str]


@lru_cache(maxsize=1)
def _templates() -> _Templates:
    views, garments = [], []
    for garment in (*GARMENTS, NEW_GARMENT):
        for wearer in (None, *WEARERS):
            for pose in PRODUCT_POSES if wearer is None else POSES:
                shown = labels(Scene(garment, "red", "white", pose, wearer), 2 * _SIDE)
                mask = ((shown >= Tone.GARMENT) & (shown <= Tone.GARMENT_FOLD)).astype(np.uint8)
                views.append(_views(mask, (shown >= Tone.GARMENT).astype(np.uint8)))
                garments.append(garment)
    stacked = np.array(views).transpose(1, 0, 2)
    return _Templates(stacked, stacked.sum(axis=2), garments)


def _by_garment(match: NDArray[np.float32]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for garment, value in zip(_templates().garments, match.tolist(), strict=True):
        scores[garment] = max(value, scores.get(garment, 0.0))
    return scores
