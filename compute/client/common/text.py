"""JSON of others, which may be anything."""

import json
from typing import Any

__all__ = ["json_value"]


def json_value(text: str | bytes) -> Any:
    """The value of a text in JSON.

    Raises:
        ValueError: it is none, or one that is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("the value is nested too deeply") from error
