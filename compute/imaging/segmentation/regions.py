"""Locates a label such as `tshirt` or `logos` on a subject, from the subject's outline and its face.

No model that understands images is used, so a region is a band of the subject, not a cut-out garment:

- With a face, bands are measured in heads downwards from the chin. A standing body is about 7.5 heads high, the chin at
  1, the hips at about 3.7 (Loomis, "Figure drawing for all it's worth", 1943).
- Without one, an upright subject (at least 1.6 times as high as wide) is divided by the same proportions.
- Any other subject is taken for the article itself, a garment laid flat: its region is the whole subject, and that of a
  logo the subject's middle.

An unknown label means the whole subject; if no subject stands out, the whole image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.imaging.faces import Face

__all__ = ["Region", "RegionName", "find_region", "region_named"]

RegionName = Literal["face", "head", "upper", "lower", "feet", "body", "logo", "subject"]
Box = tuple[int, int, int, int]
Bools = NDArray[np.bool_]

_LABELS: dict[RegionName, str] = {
    "face": "face eyes skin makeup",
    "head": "head hair hat cap helmet",
    "upper": "upper top shirt tshirt tee blouse polo sweater sweatshirt hoodie pullover cardigan knitwear vest jacket "
    "blazer coat torso sleeve",
    "lower": "lower bottom pant trouser jean denim skirt short legging leg",
    "feet": "feet foot footwear shoe boot sneaker sandal heel sock",
    "body": "body dress gown jumpsuit overall suit outfit clothe clothing garment",
    "logo": "logo print emblem badge graphic pattern label text",
}
_WORDS: dict[str, RegionName] = {word: name for name, words in _LABELS.items() for word in words.split()}

_HEADS: dict[RegionName, tuple[float, float]] = {
    "upper": (0.15, 2.7),
    "lower": (2.1, 6.2),
    "feet": (5.8, np.inf),
    "body": (0.15, np.inf),
    "logo": (0.4, 2.0),
}
"""Top and bottom of each region, in heads below the chin."""
_SHARES: dict[RegionName, tuple[float, float]] = {
    "face": (0.0, 0.14),
    "head": (0.0, 0.15),
    "upper": (0.13, 0.5),
    "lower": (0.44, 0.95),
    "feet": (0.87, 1.0),
    "body": (0.13, 1.0),
    "logo": (0.18, 0.38),
}
"""Top and bottom of each region, in shares of an upright subject's height."""
_HEAD_PER_FACE = 1.15
_HEADS_BELOW_CHIN = 6.2
_WHOLE_FIGURE = (4.8, 7.8)
"""Heads below the chin, measured by the face, of a subject visible down to its feet."""
_UPRIGHT = 1.6
_FEATHER = 0.04
_LEAST_SIDE = 12


@dataclass(frozen=True, slots=True)
class Region:
    """Part of an image: `box` (left, top, right, bottom) in pixels, and in it a mask of mode L, 0 where it ends."""

    name: RegionName
    box: Box
    mask: Image.Image


def region_named(label: str | None) -> RegionName:
    """The region that a label means, in any case, in singular or plural, or as one word of several (`blue T-shirt`)."""
    for word in (label or "").casefold().replace("-", "").replace("_", " ").split():
        for spelling in (word, word.removesuffix("s"), word.removesuffix("es")):
            if spelling in _WORDS:
                return _WORDS[spelling]
            if spelling in get_args(RegionName):
                return spelling  # type: ignore[return-value]
    return "subject"


def find_region(label: str | None, subject: Image.Image, faces: Sequence[Face]) -> Region:
    """Find the label's region on the subject.

    Args:
        subject: Mode L, of the image's size: white is the subject.
        faces: The detected faces, the largest first; only that one is used.
    """
    inside: Bools = np.asarray(subject) > 127
    outline = _bounds(inside)
    if outline is None or _shorter_side(outline) < _LEAST_SIDE:
        inside, outline = np.ones_like(inside), (0, 0, *subject.size)
    name = region_named(label)
    box = _band(name, outline, faces[0] if faces else None)
    part = _bounds(inside[box[1] : box[3], box[0] : box[2]])
    if part is None or _shorter_side(part) < _LEAST_SIDE:
        name, box = "subject", outline
    else:
        box = (box[0] + part[0], box[1] + part[1], box[0] + part[2], box[1] + part[3])
    return Region(name, box, _feathered(inside, box))


def _band(name: RegionName, outline: Box, face: Face | None) -> Box:
    """The box of a region, inside the subject's."""
    left, top, right, bottom = outline
    width, height = right - left, bottom - top
    if name == "subject":
        return outline
    if face is not None:
        return _inside(_by_face(name, outline, face), outline)
    if height >= _UPRIGHT * width:
        begin, end = _SHARES[name]
        sides = (left + 0.25 * width, right - 0.25 * width) if name == "logo" else (left, right)
        return _inside((sides[0], top + begin * height, sides[1], top + end * height), outline)
    if name == "logo":
        return _inside((left + 0.2 * width, top + 0.15 * height, right - 0.2 * width, top + 0.7 * height), outline)
    return outline


def _by_face(name: RegionName, outline: Box, face: Face) -> tuple[float, float, float, float]:
    left, top, right, chin = face.box
    head = _head_height(chin - top, outline[3] - chin)
    if name == "face":
        margin = 0.15 * (right - left)
        return left - margin, top - margin, right + margin, chin + margin
    if name == "head":
        return left - 0.4 * head, outline[1], right + 0.4 * head, chin + 0.1 * head
    begin, end = _HEADS[name]
    middle = (left + right) / 2
    sides = (middle - 1.1 * head, middle + 1.1 * head) if name == "logo" else (outline[0], outline[2])
    return sides[0], chin + begin * head, sides[1], chin + end * head


def _head_height(face: float, below: float) -> float:
    """Height of a head in pixels: from the face, or from the length `below` the chin if that is a whole figure, because
    the height of detected faces is accurate to a fifth only."""
    head = face * _HEAD_PER_FACE
    least, most = _WHOLE_FIGURE
    return below / _HEADS_BELOW_CHIN if least <= below / head <= most else head


def _inside(box: tuple[float, float, float, float], outline: Box) -> Box:
    """Round to whole pixels and clip to the outline; possibly empty."""
    left, top = (int(np.clip(box[side], outline[side], outline[side + 2])) for side in (0, 1))
    right, bottom = (int(np.clip(box[side + 2], outline[side], outline[side + 2])) for side in (0, 1))
    return left, top, right, bottom


def _shorter_side(box: Box) -> int:
    return min(box[2] - box[0], box[3] - box[1])


def _bounds(inside: Bools) -> Box | None:
    """The bounding box of the true pixels."""
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    if not columns.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _feathered(inside: Bools, box: Box) -> Image.Image:
    """The subject inside the box; it fades towards its edge and the box's, but not towards the image's."""
    left, top, right, bottom = box
    height, width = inside.shape
    part = inside[top:bottom, left:right].astype(np.uint8)
    framed = np.zeros((part.shape[0] + 2, part.shape[1] + 2), np.uint8)
    framed[1:-1, 1:-1] = part
    if left == 0:
        framed[:, 0] = framed[:, 1]
    if right == width:
        framed[:, -1] = framed[:, -2]
    if top == 0:
        framed[0] = framed[1]
    if bottom == height:
        framed[-1] = framed[-2]
    feather = max(2.0, _FEATHER * min(part.shape))
    # Without any zero there is no edge to measure the distance from.
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1] if not framed.all() else part * feather
    return Image.fromarray(np.round(np.clip(depth / feather, 0, 1) * 255 * part).astype(np.uint8))
