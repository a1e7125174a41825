"""The two shapes of an error answer."""

from pydantic import BaseModel, Field

__all__ = ["HTTPValidationError", "Problem", "ValidationError"]


class Problem(BaseModel):
    """Every error but that of a payload, which is `HTTPValidationError`."""

    detail: str = Field(description="What went wrong, for a person.")
    code: str = Field(description="What went wrong, for a program.", examples=["NOT_FOUND"])


class ValidationError(BaseModel):
    """One thing that is wrong with a payload."""

    loc: list[str | int] = Field(description="Where it is, from the outside in.", examples=[["body", "prompt"]])
    msg: str
    type: str


class HTTPValidationError(BaseModel):
    """The payload cannot be accepted; nothing was stored."""

    detail: list[ValidationError]
    code: str = Field(default="INVALID_INPUT", examples=["INVALID_INPUT"])
