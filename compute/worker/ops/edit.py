"""Plans an edit: chooses the part of an image that the model sees, and puts its output back into the image."""

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
"""Surroundings that the model sees on each side of the editable part, as a share of its size."""
_LEAST_SIDE = 512
_FEATHER = 0.02
"""Width of the feathered edge, as a share of the generated part's shorter side; at most `_WIDEST_FEATHER` pixels."""
_WIDEST_FEATHER = 24


@dataclass(frozen=True, slots=True)
class EditPlan:
    """One edit between loading and storing.

    Attributes:
        view: The model's input image: RGB, on its grid.
        mask: The part of it that the model may change, in whole latents; None for everything.
        shown: The (width, height) of this part in the result.
    """

    view: Image.Image
    mask: Image.Image | None
    shown: tuple[int, int]
    _base: Image.Image
    _box: Box
    _weights: Weights | None
    _size: tuple[int, int]

    def finish(self, generated: Image.Image) -> Image.Image:
        """The result at exactly the requested size. Takes CPU time: call it in a thread."""
        if self._weights is None:
            return at_size(generated, self._size)
        region = self._base.crop(self._box)
        result = self._base.convert("RGBA" if self._base.mode == "RGBA" else "RGB")
        result.paste(composite(region, at_size(generated, region.size), self._weights), self._box[:2])
        return at_size(result, self._size)


def plan_edit(
    base: Image.Image, mask: Image.Image | None, size: tuple[int, int], *, work_pixels: int, multiple: int
) -> EditPlan:
    """Choose the part to generate. Takes CPU time: call it in a thread.

    With other proportions the middle of the image is kept. An image of more than `work_pixels` is generated smaller;
    if the mask opens only a part, that part is generated with its surroundings, as large as allowed.

    Args:
        base: The image.
        mask: White is editable; of any size and mode.
        size: Of the result, width and height in pixels.
        work_pixels: The largest number of pixels generated at once.
        multiple: The sides of the generated part are multiples of this.

    Raises:
        InvalidInput: the mask is black everywhere.
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
