"""What of a picture a model is shown, and how what it drew goes back into the picture."""

from dataclasses import dataclass

from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.blend import Box, Weights, composite, cover, feather, mask_of, region_around, whole_cells
from compute.imaging.flatten import on_white

__all__ = ["Plan", "plan_edit"]

_CELL = 8
"""Pixels of a latent."""
_MARGIN = 0.75
"""Surroundings that the model sees on each side of an open part, as a share of its size."""
_LEAST_SIDE = 512
_FEATHER = 0.02
"""Of the shorter side of what is drawn; at most `_WIDEST_FEATHER` pixels."""
_WIDEST_FEATHER = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """One edit between loading and storing.

    Attributes:
        view: What the model is shown: RGB, on its grid.
        mask: What it may change of that, in whole latents; None for everything.
    """

    view: Image.Image
    mask: Image.Image | None
    _base: Image.Image
    _box: Box
    _weights: Weights | None
    _size: tuple[int, int]

    def finish(self, drawn: Image.Image) -> Image.Image:
        """The result at exactly the requested size. Takes CPU time: call it in a thread."""
        if self._weights is None:
            return _resized(drawn, self._size)
        region = self._base.crop(self._box)
        result = self._base.convert("RGBA" if self._base.mode == "RGBA" else "RGB")
        result.paste(composite(region, _resized(drawn, region.size), self._weights), self._box[:2])
        return _resized(result, self._size)


def plan_edit(
    base: Image.Image, mask: Image.Image | None, size: tuple[int, int], *, work_pixels: int, multiple: int
) -> Plan:
    """Choose what is drawn. Takes CPU time: call it in a thread.

    With other proportions the middle of the picture is kept. A picture of more than `work_pixels` is drawn smaller; if
    only a part is open, that part with its surroundings, as large as it may be.

    Args:
        base: The picture.
        mask: White is open; of any size and mode.
        size: Of the result, width and height in pixels.
        work_pixels: The most that is drawn.
        multiple: Sides of what is drawn are multiples of this.

    Raises:
        InvalidInput: nothing is open.
    """
    kept = cover(base.size, size)
    fitted = base.crop(kept)
    if mask is None:
        return Plan(_view(fitted, work_pixels, multiple), None, fitted, (0, 0, *fitted.size), None, size)
    whole = mask_of(mask, base.size).crop(kept)
    box = region_around(whole, margin=_MARGIN, least=_LEAST_SIDE)
    if box is None:
        raise InvalidInput("The mask is black everywhere: nothing is open to be edited.", field="mask")
    if fitted.width * fitted.height <= work_pixels:
        box = (0, 0, *fitted.size)
    view = _view(fitted.crop(box), work_pixels, multiple)
    part = whole.crop(box)
    open_cells = whole_cells(_shrunk_mask(part, view.size), _CELL)
    radius = min(_WIDEST_FEATHER, round(min(part.size) * _FEATHER))
    return Plan(view, open_cells, fitted, box, feather(part, radius), size)


def _view(picture: Image.Image, work_pixels: int, multiple: int) -> Image.Image:
    scale = min(1.0, (work_pixels / (picture.width * picture.height)) ** 0.5)
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in picture.size)
    return _resized(on_white(picture), (width, height))


def _shrunk_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    # A box filter misses no pixel of what is open, however much smaller it becomes.
    opened = mask.point(lambda value: 255 if value else 0)
    return opened.resize(size, Image.Resampling.BOX).point(lambda value: 255 if value else 0)


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
