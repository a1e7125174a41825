"""What preprocessing does to the pictures of a data set, in the order in which it is listed.

Two have their place wherever they are listed: all pictures are scaled after the crops, and mirrored last.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from compute.schemas.rules.strict import JsonBody

__all__ = ["BackgroundRemoval", "Crop", "Flip", "Resize", "Transform"]


class _Transform(JsonBody):
    model_config = ConfigDict(frozen=True)


class Resize(_Transform):
    """Scale to the bucket of the picture's aspect ratio. Every data set is resized; naming it sets how."""

    type: Literal["resize"]
    resolution: int | None = Field(
        default=None, ge=32, le=2048, description="Side in pixels of the square with a bucket's area; the model's own."
    )
    upscale: bool = Field(default=True, description="Whether pictures smaller than that are enlarged or left out.")


class Crop(_Transform):
    """Cut the largest square or other aspect ratio out of the picture."""

    type: Literal["crop"]
    aspect_ratio: float = Field(default=1.0, ge=0.25, le=4, description="Width by height.")
    anchor: Literal["center", "top", "bottom"] = Field(default="center", description="Which part of the picture stays.")


class Flip(_Transform):
    """Add the mirror image of every picture."""

    type: Literal["flip"]
    direction: Literal["horizontal"] = "horizontal"


class BackgroundRemoval(_Transform):
    """Cut the subject out and put it on one colour. A picture in which none stands out is left out."""

    type: Literal["background_removal"]
    color: str = Field(default="#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", description="What is behind it, as #rrggbb.")
    model: str = Field(
        default="grabcut", max_length=50, description="Finds the subject; others than grabcut need their file."
    )


Transform = Annotated[Resize | Crop | Flip | BackgroundRemoval, Field(discriminator="type")]
