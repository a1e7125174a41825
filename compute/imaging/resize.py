"""Resizes images, with colours and transparency separated so that neither affects the other."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["Layers", "at_size", "covering_box", "open_at", "resized", "within"]

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Layers:
    """An image split into colours for a model (RGB), its transparency (mode L), and whether it is gray."""

    colours: Image.Image
    alpha: Image.Image | None
    gray: bool

    @classmethod
    def of(cls, image: Image.Image) -> "Layers":
        """Split an image in mode L, RGB or RGBA. Colours are extended under transparency, see `_spread`."""
        if image.mode == "RGBA":
            return cls(_spread(image), image.getchannel("A"), gray=False)
        return cls(image.convert("RGB"), None, gray=image.mode == "L")

    def resized(self, size: Size) -> "Layers":
        """Resize all layers, like `resized`."""
        alpha = None if self.alpha is None else resized(self.alpha, size)
        return Layers(resized(self.colours, size), alpha, self.gray)

    def with_colours(self, colours: Image.Image) -> Image.Image:
        """Join the layers with `colours` to one image in the original mode; `colours` may be modified."""
        if self.alpha is not None:
            colours.putalpha(self.alpha)
        return colours.convert("L") if self.gray else colours


def resized(image: Image.Image, size: Size) -> Image.Image:
    """Resize to exactly this (width, height), by Lanczos; other proportions are cropped equally on both sides."""
    return image.resize(size, Image.Resampling.LANCZOS, box=covering_box(image.size, size))


def at_size(image: Image.Image, size: Size) -> Image.Image:
    """Resize the whole image to exactly this (width, height), by Lanczos, stretching it if necessary; returns the image
    itself if it has that size."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def within(image: Image.Image, side: int) -> Image.Image:
    """Scale an image in mode L, RGB or RGBA down until no side has more than `side` pixels; returns the image itself if
    none has."""
    longest = max(image.size)
    if longest <= side:
        return image
    width, height = (max(1, round(one * side / longest)) for one in image.size)
    return at_size(image, (width, height))


def open_at(mask: Image.Image, size: Size) -> Image.Image:
    """Resize a mask to another (width, height), mode L: white wherever any part of it is open, however small; black
    elsewhere."""
    # In floating point, because one pixel of many is less than one of 255 levels.
    opened = Image.fromarray((np.asarray(mask.convert("L")) > 0).astype(np.float32))
    return Image.fromarray((np.asarray(opened.resize(size, Image.Resampling.BOX)) > 0).astype(np.uint8) * np.uint8(255))


def covering_box(size: Size, target: Size) -> Box:
    """The largest centred part of an image of `size` with the proportions of `target`: left, top, right and bottom, in
    fractions of pixels."""
    width, height = float(size[0]), float(size[1])
    if size[0] * target[1] > size[1] * target[0]:
        width = target[0] * size[1] / target[1]
    else:
        height = target[1] * size[0] / target[0]
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, size[0] - left, size[1] - top


def _spread(image: Image.Image) -> Image.Image:
    """RGB of an RGBA image with the visible colours extended into its transparent parts.

    Hidden colours there would otherwise bleed into visible edges, on resizing as well as in a model. Pull-push over a
    pyramid of halves (Gortler et al. 1996, The Lumigraph, section 3.4).
    """
    seen = image.convert("RGB")
    if image.getchannel("A").getextrema()[0] == 255 or image.size == (1, 1):
        return seen
    half = image.resize(((image.width + 1) // 2, (image.height + 1) // 2), Image.Resampling.BOX)
    spread = _spread(half).resize(image.size, Image.Resampling.BILINEAR)
    # The colour of a nearly transparent pixel is hardly known: 8 bits, multiplied by its alpha.
    spread.paste(seen, mask=image.getchannel("A").point(lambda alpha: min(255, alpha * 8)))
    return spread
