"""Validation of names that callers choose and that become one segment of an address or a storage path."""

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

__all__ = ["SEGMENT"]


def _must_name(text: str) -> str:
    if not text.strip("."):
        raise PydanticCustomError("dot_segment", "must not consist of dots: no address could name it")
    return text


SEGMENT = AfterValidator(_must_name)
"""Validator of a name that is a segment. Clients and servers resolve `.` and `..`, however they are encoded, so an
address with such a name leads elsewhere. The slash is for the field's own pattern to refuse."""
