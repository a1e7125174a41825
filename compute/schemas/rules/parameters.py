"""Types for values that arrive as text, in a query or a form. Each value has one accepted spelling."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

__all__ = ["Flag", "Label", "WholeNumber"]

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def _whole_number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if _WHOLE.fullmatch(value) is None:
        raise PydanticCustomError("whole_number", "must be a whole number, in digits")
    return int(value)


def _flag(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if (flag := _FLAGS.get(value.lower())) is None:
        raise PydanticCustomError("flag", "must be true, false, 1 or 0")
    return flag


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
"""Digits, with an optional minus: no spaces, no plus, no leading zero, no decimal point."""

Flag = Annotated[bool, BeforeValidator(_flag)]
"""`true`, `false`, `1` or `0`, in upper or lower case."""

Label = Annotated[str, Field(min_length=1, max_length=200)]
"""A text that a filter compares exactly."""
