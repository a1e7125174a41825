"""Face detection: boxes and scores.

Detectors are pluggable: `DETECTORS` maps a name to a factory. `haar` needs no file, because OpenCV 4 contains its
cascades; `yunet` needs its ONNX file and also finds turned and partly covered faces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compute.errors import TaskFailed

__all__ = ["DETECTORS", "Face", "FaceDetector", "detect_faces", "pick_detector"]

Bytes = NDArray[np.uint8]

_LONGEST_SIDE = 1024
"""Detection works on images of at most this size; a face of 3 percent of it is still 30 pixels wide."""
_SMALLEST_SHARE = 0.03
"""As a share of the image's longer side: smaller boxes are more often a pattern than a face."""
_SMALLEST_SIDE = 24
_LEAST_CONTRAST = 8.0
"""Least standard deviation of luminance inside a face, in grey levels; flat areas are not faces."""
_SAME_FACE = 0.4
"""Two boxes that overlap by this share of the smaller one are the same face."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face. `box` is (left, top, right, bottom) in pixels, the last two exclusive; from hair line to chin.

    `score` grows with certainty and is comparable between faces of one detector only.
    """

    box: tuple[int, int, int, int]
    score: float

    @property
    def area(self) -> int:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


class FaceDetector(Protocol):
    """Finds faces in RGB pixels (height, width, 3), in any order, duplicates allowed. Used by one thread."""

    def find(self, pixels: Bytes) -> Sequence[Face]: ...


def pick_detector(models_root: Path) -> tuple[str, Path | None]:
    """The best detector available, as arguments of `detect_faces`.

    YuNet is read from `faces/face_detection_yunet*.onnx`; of several files the last by name is used.
    """
    files = sorted((models_root / "faces").glob("face_detection_yunet*.onnx"))
    return ("yunet", files[-1]) if files else ("haar", None)


def detect_faces(image: Image.Image, *, detector: str = "haar", model_path: Path | None = None) -> list[Face]:
    """Detect the faces of an image, the largest first, without duplicates.

    A detector is built for every call: OpenCV's are not safe to share between threads, and building one takes a small
    part of the detection time.

    Example:
        for face in detect_faces(image):
            crop = image.crop(face.box)

    Raises:
        ValueError: there is no such detector, or it needs a file and has none.
        FileNotFoundError: there is no file at `model_path`.
        TaskFailed: the file cannot be loaded.
    """
    if detector not in DETECTORS:
        raise ValueError(f"There is no face detector {detector!r}; known: {', '.join(sorted(DETECTORS))}.")
    if model_path is not None and not model_path.is_file():
        raise FileNotFoundError(f"There is no model for face detection at {model_path}.")
    scale = min(1.0, _LONGEST_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BOX) if scale < 1 else image
    pixels = np.asarray(small.convert("RGB"))
    found = [face for face in DETECTORS[detector](model_path).find(pixels) if _is_plausible(face, pixels)]
    enlarged = [_enlarged(face, (image.width / small.width, image.height / small.height)) for face in _merged(found)]
    return sorted(enlarged, key=lambda face: face.area, reverse=True)


class _Haar:
    """Viola and Jones, "Rapid object detection using a boosted cascade of simple features" (2001), frontal faces."""

    _LEAST_SCORE = 2.0
    """Weight of the cascade's last stage; frontal faces reach 5 to 14, most chance hits less than 2."""

    def __init__(self, model_path: Path | None) -> None:
        own = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
        self._cascade = cv2.CascadeClassifier()
        try:
            loaded = self._cascade.load(str(model_path or own))
        except cv2.error as error:
            raise TaskFailed(f"{model_path or own} is no Haar cascade: {error}") from error
        if not loaded:
            raise TaskFailed(f"{model_path or own} is no Haar cascade.")

    def find(self, pixels: Bytes) -> list[Face]:
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        least = _smallest_side(pixels)
        boxes, _, scores = self._cascade.detectMultiScale3(
            gray, scaleFactor=1.1, minNeighbors=5, minSize=(least, least), outputRejectLevels=True
        )
        return [
            Face((int(x), int(y), int(x + width), int(y + height)), float(score))
            for (x, y, width, height), score in zip(boxes, scores, strict=True)
            if score >= self._LEAST_SCORE
        ]


class _YuNet:
    """Wu, Peng, Yu, "YuNet: A tiny millisecond-level face detector" (2023), run by OpenCV."""

    _LEAST_SCORE = 0.7
    _OVERLAP = 0.3
    _MOST = 200

    def __init__(self, model_path: Path | None) -> None:
        if model_path is None:
            raise ValueError("The detector yunet needs the path of its ONNX file.")
        try:
            self._net = cv2.FaceDetectorYN.create(
                str(model_path), "", (320, 320), self._LEAST_SCORE, self._OVERLAP, self._MOST
            )
        except cv2.error as error:
            raise TaskFailed(f"{model_path} cannot be loaded as YuNet: {error}") from error

    def find(self, pixels: Bytes) -> list[Face]:
        height, width = pixels.shape[:2]
        self._net.setInputSize((width, height))
        _, rows = self._net.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        return [_from_yunet(row, width, height) for row in (() if rows is None else rows)]


def _from_yunet(row: NDArray[np.float32], width: int, height: int) -> Face:
    """A row is x, y, width, height, five landmarks and the score; boxes may reach outside."""
    x, y, wide, high = (float(value) for value in row[:4])
    box = (max(0, round(x)), max(0, round(y)), min(width, round(x + wide)), min(height, round(y + high)))
    return Face(box, float(row[-1]))


DETECTORS: dict[str, Callable[[Path | None], FaceDetector]] = {"haar": _Haar, "yunet": _YuNet}
"""Factories of detectors by name, each called with the path of its model; others may be added."""


def _smallest_side(pixels: Bytes) -> int:
    return max(_SMALLEST_SIDE, int(_SMALLEST_SHARE * max(pixels.shape[:2])))


def _is_plausible(face: Face, pixels: Bytes) -> bool:
    """Large enough, about as wide as high, and not flat."""
    left, top, right, bottom = face.box
    width, height = right - left, bottom - top
    if min(width, height) < _smallest_side(pixels) or not 0.4 <= width / height <= 1.6:
        return False
    gray = cv2.cvtColor(pixels[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    return float(gray.std()) >= _LEAST_CONTRAST


def _merged(faces: Sequence[Face]) -> list[Face]:
    """Keep, of boxes that show the same face, the one with the highest score."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda found: found.score, reverse=True):
        if all(_overlap(face, other) < _SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _overlap(one: Face, other: Face) -> float:
    """The area that both cover, as a share of the smaller one."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    return max(0, width) * max(0, height) / max(1, min(one.area, other.area))


def _enlarged(face: Face, scale: tuple[float, float]) -> Face:
    left, top, right, bottom = face.box
    box = (round(left * scale[0]), round(top * scale[1]), round(right * scale[0]), round(bottom * scale[1]))
    return Face(box, face.score)
