"""Reads a JSON body that may be anything, and hands on only what the database can keep."""

import json
import math
from typing import Any

from fastapi import Request

from compute.errors import InvalidInput

__all__ = ["check_storable", "json_object"]

MAX_DEPTH = 32
"""Objects and lists inside each other; real requests need five."""


async def json_object(request: Request, *, storable: bool = True) -> dict[str, Any]:
    """The request's body as a JSON object; with `storable` what `check_storable` lets pass.

    Raises:
        InvalidInput: another content type, no JSON, not an object, or not storable.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise InvalidInput("Send JSON, with Content-Type: application/json.")
    try:
        body = json.loads(await request.body())
    except RecursionError:
        raise InvalidInput("The JSON is nested too deeply.") from None
    except ValueError as error:
        raise InvalidInput(f"This is not JSON: {_where(error)}.") from None
    if not isinstance(body, dict):
        raise InvalidInput("Send a JSON object.")
    if storable:
        check_storable(body)
    return body


def check_storable(body: dict[str, Any]) -> None:
    """Raises:
    InvalidInput: nested too deeply, text that the database cannot keep, or a number that is none.
    """
    pending: list[tuple[str, Any, int]] = [(name, value, 1) for name, value in _named(body)]
    while pending:
        name, value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput(f"Nested more than {MAX_DEPTH} levels deep.", field=name)
        if isinstance(value, dict):
            pending += [(name, item, depth + 1) for _, item in _named(value, name)]
        elif isinstance(value, list):
            pending += [(name, item, depth + 1) for item in value]
        elif isinstance(value, str):
            _check_text(value, name)
        elif isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput("Not a finite number.", field=name)


def _where(error: ValueError) -> str:
    return f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "it cannot be read"


def _named(items: dict[str, Any], field: str = "body") -> list[tuple[str, Any]]:
    for key in items:
        _check_text(key, field)
    return list(items.items())


def _check_text(text: str, field: str) -> None:
    if "\x00" in text:
        raise InvalidInput("Text must not contain NUL characters.", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("Text must be valid Unicode.", field=field) from None
