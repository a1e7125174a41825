"""Fields that several task types have in common."""

from typing import Annotated

from pydantic import BaseModel, Field

from compute.schemas.text import VISIBLE_OR_BLANK

__all__ = [
    "MAX_PROMPT",
    "MAX_SEED",
    "NATIVE",
    "ImageSource",
    "NativeChoice",
    "Prompt",
    "ResultImage",
    "ResultImages",
    "ResultVideo",
    "Seed",
]

MAX_SEED = 2**63 - 1
MAX_PROMPT = 10_000

ImageSource = Annotated[
    str,
    Field(
        min_length=1,
        description="An image: an http(s) address, a data URL, base64, or the path of a stored image.",
        examples=["https://example.com/dress.jpg"],
    ),
]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT), VISIBLE_OR_BLANK]
Seed = Annotated[
    int, Field(ge=0, le=MAX_SEED, description="The same request with the same seed gives the same result.")
]


NATIVE = (
    "Draw at a size that the model is good at, and bring the result to the size that was asked for; "
    "`metadata.drawn_at` says so where the two differ. False: draw at exactly the size that was asked for."
)


class NativeChoice(BaseModel):
    """Whose size is drawn: the model's or the request's."""

    native: bool = Field(default=True, description=NATIVE)


class ResultImage(BaseModel):
    """Where the one image that a task made is."""

    result_image_path: str | None = Field(default=None, description="Storage path of the image.")
    result_image_url: str | None = Field(default=None, description="A link to it that needs no key and expires.")


class ResultImages(BaseModel):
    """Where the images that a task made are."""

    result_image_paths: list[str] = Field(default=[], description="Storage paths of all images, in order.")
    result_image_urls: list[str] = Field(default=[], description="Links to them that need no key and expire.")


class ResultVideo(BaseModel):
    """Where the clip that a task made is."""

    result_video_path: str | None = Field(default=None, description="Storage path of the clip.")
    result_video_url: str | None = Field(default=None, description="A link to it that needs no key and expires.")
