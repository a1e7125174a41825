"""Fields that several task types share."""

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from compute.schemas.enums import ProviderType
from compute.schemas.rules.text import VISIBLE_OR_BLANK

__all__ = [
    "MAX_DEFINITION_CHARACTERS",
    "MAX_FREE_CHARACTERS",
    "MAX_PROMPT",
    "MAX_SEED",
    "NATIVE",
    "FallbackCapabilities",
    "FallbackConfig",
    "FallbackProvider",
    "FreeObject",
    "FreeValue",
    "ImageSource",
    "NativeChoice",
    "Prompt",
    "ProviderCapabilities",
    "ResultImage",
    "ResultImages",
    "ResultVideo",
    "Seed",
    "Sources",
    "bounded_depth_of",
    "bounded_text_of",
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
MAX_FREE_CHARACTERS = 1_000_000
"""Limit for the names and texts of a free-form object. It is stored with the task and returned in every list."""
MAX_DEFINITION_CHARACTERS = 8_000_000
"""The same for objects that a workflow passes to its tasks, which may contain an inline image of 6 MB."""


def bounded_text_of(value: Any, most: int) -> Any:
    """Return `value`, which is JSON, if its text is within the limit.

    Raises:
        ValueError: its names and texts together have more than `most` characters.
    """
    left, seen = [value], 0
    while left:
        one: Any = left.pop()
        if isinstance(one, str):
            seen += len(one)
        elif isinstance(one, BaseModel):
            left += vars(one).values()
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            left += one
        if seen > most:
            raise ValueError(f"must hold at most {most} characters of text")
    return value


def bounded_depth_of(value: Any, most: int) -> Any:
    """Return `value`, which is JSON, if its objects and lists are not nested too deeply.

    Raises:
        ValueError: there are more than `most` levels.
    """
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > most:
            raise ValueError(f"must be nested at most {most} levels deep")
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return value


FreeValue = Annotated[Any, AfterValidator(partial(bounded_text_of, most=MAX_FREE_CHARACTERS))]
FreeObject = Annotated[dict[str, Any], AfterValidator(partial(bounded_text_of, most=MAX_FREE_CHARACTERS))]
Sources = Annotated[dict[str, Any], AfterValidator(partial(bounded_text_of, most=MAX_DEFINITION_CHARACTERS))]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT), VISIBLE_OR_BLANK]
Seed = Annotated[
    int, Field(ge=0, le=MAX_SEED, description="The same request with the same seed gives the same result.")
]

_Capabilities = Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=100)]
ProviderCapabilities = Annotated[_Capabilities | None, Field(description="Capabilities that the provider must have.")]
FallbackProvider = Annotated[
    ProviderType | None, Field(description="The provider that takes over when the first one has used up its retries.")
]
FallbackConfig = Annotated[FreeObject | None, Field(description="Settings for the fallback.")]
FallbackCapabilities = Annotated[_Capabilities | None, Field(description="Capabilities that the fallback must have.")]

NATIVE = (
    "Generate at a size that the model is good at, and scale the result to the requested size; "
    "`metadata.drawn_at` has the size where the two differ. False: generate at exactly the requested size."
)


class NativeChoice(BaseModel):
    """Chooses the size at which the model generates: its own or the requested one."""

    native: bool = Field(default=True, description=NATIVE)


class ResultImage(BaseModel):
    """Location of the single image that a task made."""

    result_image_path: str | None = Field(default=None, description="Storage path of the image.")
    result_image_url: str | None = Field(default=None, description="A link to it that needs no key and expires.")


class ResultImages(BaseModel):
    """Locations of the images that a task made."""

    result_image_paths: list[str] = Field(default=[], description="Storage paths of all images, in order.")
    result_image_urls: list[str] = Field(default=[], description="Links to them that need no key and expire.")


class ResultVideo(BaseModel):
    """Location of the clip that a task made."""

    result_video_path: str | None = Field(default=None, description="Storage path of the clip.")
    result_video_url: str | None = Field(default=None, description="A link to it that needs no key and expires.")
