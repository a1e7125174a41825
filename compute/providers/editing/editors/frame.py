"""What vendors' editors have in common: the shapes that they can draw, and how far they are told to go."""

from dataclasses import dataclass
from typing import Self

from PIL import Image

from compute.imaging.blend import Box
from compute.imaging.framing.padding import padded
from compute.providers.editing.editor import EditRequest
from compute.providers.vendors.google.images import nearest_ratio, shape_of

__all__ = ["Frame", "told"]


@dataclass(frozen=True, slots=True)
class Frame:
    """The models draw ten shapes only. An image is extended to the nearest of them, and what was added is cut off
    again, so that everything stays where it was.

    Attributes:
        ratio: Of the frame, such as `3:2`.
        size: Of the frame, in pixels of the image.
        box: Where the image lies in it.
    """

    ratio: str
    size: tuple[int, int]
    box: Box

    @classmethod
    def around(cls, size: tuple[int, int]) -> Self:
        """The smallest frame that has room for an image of (width, height)."""
        width, height = size
        ratio = nearest_ratio(size)
        shape = shape_of(ratio)
        framed = max(width, round(height * shape)), max(height, round(width / shape))
        left, upper = (framed[0] - width) // 2, (framed[1] - height) // 2
        return cls(ratio, framed, (left, upper, left + width, upper + height))

    def filled(self, image: Image.Image) -> Image.Image:
        """The image in its frame, its edges extended."""
        return image if image.size == self.size else padded(image, self.size, (self.box[0], self.box[1]))

    def emptied(self, made: Image.Image) -> Image.Image:
        """The part of an edited frame, of any size, that the image was. RGB."""
        made = made if made.mode == "RGB" else made.convert("RGB")
        if self.box == (0, 0, *self.size):
            return made
        across, down = made.width / self.size[0], made.height / self.size[1]
        left, upper, right, lower = self.box
        found = (left * across, upper * down, right * across, lower * down)
        wanted = max(1, round(found[2] - found[0])), max(1, round(found[3] - found[1]))
        return made.resize(wanted, Image.Resampling.LANCZOS, box=found)


def told(request: EditRequest) -> str:
    """The instruction, and how far to go."""
    if request.strength is None or request.strength >= 1:
        return request.instruction
    return (
        f"{request.instruction}\nHow far to go, from 0 for hardly visible to 100 for as far as is possible: "
        f"{request.strength * 100:.0f}."
    )
