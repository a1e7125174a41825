"""Validation of text for people: it must contain something visible."""

import unicodedata

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

__all__ = ["VISIBLE", "VISIBLE_OR_BLANK", "shows"]

# Letters and signs by category, but rendered blank by fonts.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc")


def shows(text: str) -> bool:
    """Return whether the text has a visible character: not a space, a control or format character, or a mark alone.

    Example:
        shows("a")  # True
        shows("\\u200b \\n")  # False
    """
    return any(unicodedata.category(one)[0] not in "ZM" and _is_visible(one) for one in text)


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs"} and character not in _BLANKS


def _must_show(text: str) -> str:
    if not shows(text):
        raise PydanticCustomError("no_visible_text", "must hold at least one visible character")
    return text


def _may_be_empty(text: str) -> str:
    return _must_show(text) if text.strip() else text


VISIBLE = AfterValidator(_must_show)
"""Validator of required text: a prompt, a name, a trigger word."""
VISIBLE_OR_BLANK = AfterValidator(_may_be_empty)
"""Validator of optional text, which may be empty or blank, but not consist of invisible characters."""
