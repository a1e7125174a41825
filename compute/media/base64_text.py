"""Decodes images given as text in a request: base64 and the contents of data URLs.

All functions take time in proportion to the text, and no single call into C takes long, so that other threads run
while a large text is decoded.
"""

import binascii
import string
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from compute.storage.paths import MAX_PATH_CHARACTERS

__all__ = ["MAX_ESCAPES", "decoded", "is_inline", "unescaped"]

MAX_ESCAPES = 4_000_000
"""The most percent-encoded characters in a data URL; each costs a thousand times as much as another character."""

_STEP = 256 * 1024
_SHORTEST = 64
"""A path of that length has a dot in it."""
_ALPHABET = frozenset(string.ascii_letters + string.digits + "+/-_")
_WHITESPACE = b" \t\r\n\v\f"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def is_inline(source: str) -> bool:
    """Whether a source that is not an address contains the image itself, rather than its storage path."""
    if source[:5].lower() == "data:" or len(source) > MAX_PATH_CHARACTERS:
        return True
    stripped = source.rstrip().rstrip("=")
    return len(stripped) >= _SHORTEST and all(one in _ALPHABET or one.isspace() for one in stripped)


def decoded(text: str) -> bytes:
    """Decode base64, also with line breaks, in the URL-safe alphabet, or without padding.

    Raises:
        ValueError: the text is not base64.
    """
    found = bytearray()
    left = b""
    for piece in _pieces(text.rstrip("= \t\r\n\v\f")):
        left += piece.encode("ascii").translate(_URL_SAFE, _WHITESPACE)
        if b"=" in left:
            raise ValueError("padding in the middle")
        whole = len(left) // 4 * 4
        found += binascii.a2b_base64(left[:whole], strict_mode=True)
        left = left[whole:]
    found += binascii.a2b_base64(left + b"=" * (-len(left) % 4), strict_mode=True)
    return bytes(found)


def unescaped(text: str) -> bytes:
    """Decode percent-encoded text.

    Raises:
        ValueError: more than `MAX_ESCAPES` characters are encoded.
    """
    if text.count("%") > MAX_ESCAPES:
        raise ValueError("too many escapes")
    found = bytearray()
    left = ""
    for piece in _pieces(text):
        left += piece
        # An escape has three characters; an incomplete one is carried over to the next piece.
        cut = left.rfind("%", -2)
        ready, left = (left, "") if cut < 0 else (left[:cut], left[cut:])
        found += unquote_to_bytes(ready)
    found += unquote_to_bytes(left)
    return bytes(found)


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _STEP):
        yield text[start : start + _STEP]
