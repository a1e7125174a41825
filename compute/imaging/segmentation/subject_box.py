"""Computes the bounding box of a subject from its mask."""

import cv2
import numpy as np
from PIL import Image

from compute.imaging.framing.geometry import Subject

__all__ = ["subject_box"]

_INSIDE = 128
_SPECK = 0.01
"""A part smaller than this share of the largest one is dust, a shadow's end or the mask's mistake."""


def subject_box(mask: Image.Image) -> Subject | None:
    """The bounding box of a mask (mode L) in pixels, without specks: left, top, right, bottom; None if it is empty."""
    inside = (np.asarray(mask) >= _INSIDE).astype(np.uint8)
    _, _, parts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    # The first component is the outside.
    parts = parts[1:]
    if not len(parts):
        return None
    kept = parts[parts[:, cv2.CC_STAT_AREA] >= _SPECK * parts[:, cv2.CC_STAT_AREA].max()]
    left, top = kept[:, cv2.CC_STAT_LEFT], kept[:, cv2.CC_STAT_TOP]
    right, bottom = left + kept[:, cv2.CC_STAT_WIDTH], top + kept[:, cv2.CC_STAT_HEIGHT]
    return float(left.min()), float(top.min()), float(right.max()), float(bottom.max())
