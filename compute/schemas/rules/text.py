"""Text that people are to read: it must show something."""

import unicodedata

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

__all__ = ["VISIBLE", "VISIBLE_OR_BLANK", "shows"]

# Letters and signs by their category, which fonts draw as nothing.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc")


def shows(text: str) -> bool:
    """Whether anything in it can be seen: not spaces, control and format characters, or marks without a letter."""
    return any(unicodedata.category(one)[0] not in "ZM" and _drawn(one) for one in text)


def _drawn(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs"} and character not in _BLANKS


def _must_show(text: str) -> str:
    if not shows(text):
        raise PydanticCustomError("no_visible_text", "must hold at least one visible character")
    return text


def _may_be_empty(text: str) -> str:
    return _must_show(text) if text.strip() else text


VISIBLE = AfterValidator(_must_show)
"""For text that is needed: a prompt, a name, a trigger word."""
VISIBLE_OR_BLANK = AfterValidator(_may_be_empty)
"""For text that may be left out, or be empty or blank: characters that nobody sees are a mistake there, too."""
