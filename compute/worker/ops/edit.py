"""What of an image a model is shown, and how what it drew goes back into the image."""

from dataclasses import dataclass

from PIL import Image

from compute.errors import InvalidInput
from compute.imaging.blend import Box, Weights, composite, cover, feather, mask_of, region_around, whole_cells
from compute.imaging.flatten import on_white
from compute.imaging.resize import at_size, open_at

__all__ = ["EditPlan", "plan_edit"]

_CELL = 8
"""Pixels of a latent."""
_MARGIN = 0.75
"""Surroundings that the model sees on each side of an open part, as a share of its size."""
_LEAST_SIDE = 512
_FEATHER = 0.02
"""Of the shorter side of what is drawn; at most `_WIDEST_FEATHER` pixels."""
_WIDEST_FEATHER = 24


@dataclass(frozen=True, slots=True)
class EditPlan:
    """One edit between loading and storing.

    Attributes:
        view: What the model is shown: RGB, on its grid.
        mask: What it may change of that, in whole latents; None for everything.
        shown: The (width, height) that this part has in the result.
    """

    view: Image.Image
    mask: Image.Image | None
    shown: tuple[int, int]
    _base: Image.Image
    _box: Box
    _weights: Weights | None
    _size: tuple[int, int]

    def finish(self, drawn: Image.Image) -> Image.Image:
        """The result at exactly the requested size. Takes CPU time: call it in a thread."""
        if self._weights is None:
            return at_size(drawn, self._size)
        region = self._base.crop(self._box)
        result = self._base.convert("RGBA" if self._base.mode == "RGBA" else "RGB")
        result.paste(composite(region, at_size(drawn, region.size), self._weights), self._box[:2])
        return at_size(result, self._size)


def plan_edit(
    base: Image.Image, mask: Image.Image | None, size: tuple[int, int], *, work_pixels: int, multiple: int
) -> EditPlan:
    """Choose what is drawn. Takes CPU time: call it in a thread.

    With other proportions the middle of the image is kept. An image of more than `work_pixels` is drawn smaller; if
    only a part is open, that part with its surroundings, as large as it may be.

    Args:
        base: The image.
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
        return EditPlan(_view(fitted, work_pixels, multiple), None, size, fitted, (0, 0, *fitted.size), None, size)
    whole = mask_of(mask, base.size).crop(kept)
    box = region_around(whole, margin=_MARGIN, least=_LEAST_SIDE)
    if box is None:
        raise InvalidInput("The mask is black everywhere: nothing is open to be edited.", field="mask")
    if fitted.width * fitted.height <= work_pixels:
        box = (0, 0, *fitted.size)
    view = _view(fitted.crop(box), work_pixels, multiple)
    part = whole.crop(box)
    open_cells = whole_cells(open_at(part, view.size), _CELL)
    radius = min(_WIDEST_FEATHER, round(min(part.size) * _FEATHER))
    width, height = (round(part.size[axis] * size[axis] / fitted.size[axis]) for axis in (0, 1))
    return EditPlan(view, open_cells, (width, height), fitted, box, feather(part, radius), size)


def _view(image: Image.Image, work_pixels: int, multiple: int) -> Image.Image:
    scale = min(1.0, (work_pixels / (image.width * image.height)) ** 0.5)
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in image.size)
    return at_size(on_white(image), (width, height))
