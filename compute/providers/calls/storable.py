"""Answers of vendors, without what the database refuses."""

import math
from typing import Any

__all__ = ["storable", "storable_text"]


def storable(value: Any) -> Any:
    """JSON without NULs, halves of characters, and numbers that are none (they become null).

    Example:
        storable({"score": float("nan"), "text": "red\\x00"})  # {"score": None, "text": "red"}
    """
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(str(name)): storable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [storable(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def storable_text(text: str) -> str:
    """A text without NULs; half of a character, which JSON may have, becomes a question mark."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
