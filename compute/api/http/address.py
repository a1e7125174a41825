"""The spelling of addresses: percent-encoding and UTF-8, as RFC 3986 has them, and nothing that cannot be stored."""

import re
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Scope

__all__ = ["address_fault", "raw_path"]

_BROKEN = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def address_fault(scope: Scope) -> str | None:
    """The fault of the request's path or query."""
    return _fault("path", raw_path(scope)) or _fault("query", scope.get("query_string", b""))


def raw_path(scope: Scope) -> bytes:
    """The path as it was sent, without the query."""
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"]).encode() if raw is None else raw.partition(b"?")[0]


def _fault(part: str, raw: bytes) -> str | None:
    if not raw.isascii():
        return f"{part}: characters beyond ASCII must be percent-encoded UTF-8."
    if b"%" not in raw:
        return None
    if _BROKEN.search(raw):
        return f"{part}: two hexadecimal digits must follow each %."
    decoded = unquote_to_bytes(raw)
    if b"\0" in decoded:
        return f"{part}: NUL characters (%00) are not allowed."
    try:
        decoded.decode()
    except UnicodeDecodeError:
        return f"{part}: the percent-encoded characters are not UTF-8."
    return None
