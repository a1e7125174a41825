"""The two forms of an error answer."""

from pydantic import BaseModel, Field

__all__ = ["HTTPValidationError", "Problem", "ValidationError"]


class Problem(BaseModel):
    """Every error except that of a payload, which is `HTTPValidationError`."""

    detail: str = Field(description="The error, for a person.")
    code: str = Field(description="The error, for a program.", examples=["NOT_FOUND"])


class ValidationError(BaseModel):
    """One fault in a payload."""

    loc: list[str | int] = Field(
        description="The location of the fault, from the outside in.", examples=[["body", "prompt"]]
    )
    msg: str
    type: str


class HTTPValidationError(BaseModel):
    """The payload cannot be accepted; nothing was stored."""

    detail: list[ValidationError]
    code: str = Field(default="INVALID_INPUT", examples=["INVALID_INPUT"])
