"""Images in another size: colours and transparency apart, so that neither spoils the other."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["Layers", "at_size", "covering_box", "open_at", "resized"]

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Layers:
    """An image as colours that models take (RGB), and what they do not: transparency (mode L) and that it is gray."""

    colours: Image.Image
    alpha: Image.Image | None
    gray: bool

    @classmethod
    def of(cls, image: Image.Image) -> "Layers":
        """`image` is L, RGB or RGBA. Colours go on under transparency, see `_spread`."""
        if image.mode == "RGBA":
            return cls(_spread(image), image.getchannel("A"), gray=False)
        return cls(image.convert("RGB"), None, gray=image.mode == "L")

    def resized(self, size: Size) -> "Layers":
        """All of them, as `resized` does it."""
        alpha = None if self.alpha is None else resized(self.alpha, size)
        return Layers(resized(self.colours, size), alpha, self.gray)

    def with_colours(self, colours: Image.Image) -> Image.Image:
        """One image again, in the mode that it came in; `colours` may be changed."""
        if self.alpha is not None:
            colours.putalpha(self.alpha)
        return colours.convert("L") if self.gray else colours


def resized(image: Image.Image, size: Size) -> Image.Image:
    """The image in exactly this (width, height), by Lanczos; what does not fit its shape is cut off on both sides."""
    return image.resize(size, Image.Resampling.LANCZOS, box=covering_box(image.size, size))


def at_size(image: Image.Image, size: Size) -> Image.Image:
    """The whole image in exactly this (width, height), by Lanczos, stretched if need be; itself if it has that size."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def open_at(mask: Image.Image, size: Size) -> Image.Image:
    """A mask in another (width, height), mode L: white wherever anything of it is open, however little and however
    much smaller it becomes; black elsewhere."""
    # In floating point, because one pixel of many is less than one of 255 levels.
    opened = Image.fromarray((np.asarray(mask.convert("L")) > 0).astype(np.float32))
    return Image.fromarray((np.asarray(opened.resize(size, Image.Resampling.BOX)) > 0).astype(np.uint8) * np.uint8(255))


def covering_box(size: Size, target: Size) -> Box:
    """The largest part of an image of `size`, in its middle, that has the shape of `target`: left, top, right and
    bottom, in fractions of pixels."""
    width, height = float(size[0]), float(size[1])
    if size[0] * target[1] > size[1] * target[0]:
        width = target[0] * size[1] / target[1]
    else:
        height = target[1] * size[0] / target[0]
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, size[0] - left, size[1] - top


def _spread(image: Image.Image) -> Image.Image:
    """RGB of an RGBA image in which colours run on where it is transparent.

    Whatever lies hidden there would bleed into the edges of what is seen, at the resize as in a model. Pull-push over a
    pyramid of halves (Gortler et al. 1996, The Lumigraph, section 3.4).
    """
    seen = image.convert("RGB")
    if image.getchannel("A").getextrema()[0] == 255 or image.size == (1, 1):
        return seen
    half = image.resize(((image.width + 1) // 2, (image.height + 1) // 2), Image.Resampling.BOX)
    spread = _spread(half).resize(image.size, Image.Resampling.BILINEAR)
    # The colour of a pixel of which nearly nothing is seen is hardly known: 8 bits, multiplied by its alpha.
    spread.paste(seen, mask=image.getchannel("A").point(lambda alpha: min(255, alpha * 8)))
    return spread
