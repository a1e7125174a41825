"""Types for values that arrive as text, in a query or a form. Each value has one accepted spelling."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

__all__ = ["Flag", "Label", "Moment", "WholeNumber"]

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+ -][0-9]{2}:[0-9]{2})?)?"
)
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


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    refusal = PydanticCustomError("moment", "must be a date and time such as 2026-01-31T12:00:00Z")
    # A plus in an address that was not encoded arrives as a space.
    if _MOMENT.fullmatch(value) is None:
        raise refusal
    text = value[:11] + value[11:].replace(" ", "+")
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise refusal from None


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
"""Digits, with an optional minus: no spaces, no plus, no leading zero, no decimal point."""

Flag = Annotated[bool, BeforeValidator(_flag)]
"""`true`, `false`, `1` or `0`, in upper or lower case."""

Moment = Annotated[datetime, BeforeValidator(_moment)]
"""A date, or a date and a time of day, in ISO 8601; in UTC unless it says otherwise."""

Label = Annotated[str, Field(min_length=1, max_length=200)]
"""A text that a filter compares exactly."""
