"""The interface of what edits images: a vendor's model, or our own."""

from dataclasses import dataclass
from typing import Protocol

from PIL import Image

__all__ = ["EditRequest", "ImageEditor"]


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One image to change.

    Attributes:
        part: Names it within its task, such as `tile/3/try/1`: a later run of the task that asks for the same part
            gets what the earlier one has paid for.
        instruction: What to change.
        image: RGB.
        references: Further images that the instruction refers to.
        resolution: `1K`, `2K` or `4K`, for an editor that can choose; None for the image's own.
        seed: Two tries differ in it.
        strength: How much may change, in (0, 1], for an editor that can be told; None for its own.
    """

    part: str
    instruction: str
    image: Image.Image
    references: tuple[Image.Image, ...] = ()
    resolution: str | None = None
    seed: int = 0
    strength: float | None = None


class ImageEditor(Protocol):
    """Edits images. Several edits may be under way at a time."""

    @property
    def model(self) -> str:
        """The name of the model, for the result's metadata."""
        ...

    async def edit(self, request: EditRequest) -> Image.Image:
        """The changed image, RGB, at whatever size the model gives.

        Raises:
            ProviderFailed, CallUncertain: as `JobCalls`.
        """
        ...
