"""Transforms of a data set's images, applied in the order of the list.

Two have a fixed place: all images are scaled after the crops, and mirrored last.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from compute.schemas.rules.strict import JsonBody

__all__ = ["BackgroundRemoval", "Crop", "Flip", "Resize", "Transform"]


class _Transform(JsonBody):
    model_config = ConfigDict(frozen=True)


class Resize(_Transform):
    """Scale to the bucket of the image's aspect ratio. Every data set is resized; listing it sets the options."""

    type: Literal["resize"]
    resolution: int | None = Field(
        default=None,
        ge=32,
        le=2048,
        description="Side in pixels of a square of a bucket's area; by default the model's own.",
    )
    upscale: bool = Field(default=True, description="True: smaller images are enlarged. False: they are left out.")


class Crop(_Transform):
    """Cut the largest square, or rectangle of another aspect ratio, out of the image."""

    type: Literal["crop"]
    aspect_ratio: float = Field(default=1.0, ge=0.25, le=4, description="Width by height.")
    anchor: Literal["center", "top", "bottom"] = Field(
        default="center", description="The part of the image that stays."
    )


class Flip(_Transform):
    """Add the mirror image of every image."""

    type: Literal["flip"]
    direction: Literal["horizontal"] = "horizontal"


class BackgroundRemoval(_Transform):
    """Cut the subject out and put it on one colour. An image without a clear subject is left out."""

    type: Literal["background_removal"]
    color: str = Field(default="#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", description="Background colour, as #rrggbb.")
    model: str = Field(
        default="grabcut",
        max_length=50,
        description="Network that finds the subject; all except grabcut need their file.",
    )


Transform = Annotated[Resize | Crop | Flip | BackgroundRemoval, Field(discriminator="type")]
