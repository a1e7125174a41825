"""Conditional and partial requests for stored objects, as RFC 9110 has them (sections 13 and 14)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from starlette.exceptions import HTTPException

from compute.storage.base import StoredObject

__all__ = ["Range", "content_headers", "requested_range", "unchanged"]

# One range: `first-last`, `first-` or `-how many of the last`. Nobody has a file of more than 18 digits.
_RANGE = re.compile(r"bytes\s*=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*\Z", re.IGNORECASE)
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Range:
    """`length` bytes (at least 1) from offset `start` of an object of `size` bytes."""

    start: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        """The value of the `Content-Range` header."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def content_headers(found: StoredObject) -> dict[str, str]:
    """What every answer about an object carries, with content or without."""
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "ETag": _etag(found),
        "Last-Modified": format_datetime(found.modified.astimezone(UTC), usegmt=True),
        "X-Content-Type-Options": "nosniff",
    }


def unchanged(headers: Mapping[str, str], found: StoredObject) -> bool:
    """Whether the client has the object already, so that 304 is the answer to its GET or HEAD.

    Raises:
        HTTPException: 412, the object is not the one that `If-Match` or `If-Unmodified-Since` asks for.
    """
    if (wanted := headers.get("if-match")) is not None:
        if not _names(wanted, found, weakly=False):
            raise HTTPException(412, "The object is another one than If-Match asks for.")
    elif (since := _time(headers.get("if-unmodified-since"))) and _second(found) > since:
        raise HTTPException(412, "The object has changed since then.")
    if (known := headers.get("if-none-match")) is not None:
        return _names(known, found, weakly=True)
    since = _time(headers.get("if-modified-since"))
    return since is not None and _second(found) <= since


def requested_range(headers: Mapping[str, str], found: StoredObject) -> Range | None:
    """The part that the client asks for; None for the whole object.

    Several ranges at once, other units than bytes and what is no range are ignored, as the standard allows. So is
    any range of an object that is no longer the one `If-Range` names.

    Raises:
        HTTPException: 416, there is no such part.
    """
    match = _RANGE.match(headers.get("range", ""))
    if match is None or not _same(headers.get("if-range"), found):
        return None
    first, last, tail = match.groups()
    if tail is not None:
        start, end = max(found.size - int(tail), 0), found.size
    else:
        start, end = int(first), min(int(last) + 1 if last else found.size, found.size)
        if last and int(last) < start:
            return None
    if start >= end:
        raise HTTPException(416, f"The object has {found.size} bytes.", {"Content-Range": f"bytes */{found.size}"})
    return Range(start, end - start, found.size)


def _etag(found: StoredObject) -> str:
    return f'"{found.etag}"'


def _names(header: str, found: StoredObject, *, weakly: bool) -> bool:
    """Whether a list of entity tags has the object's."""
    if header.strip() == "*":
        return True
    return any(
        match.group(1) == found.etag and (weakly or not match.group().startswith("W/"))
        for match in _ETAG.finditer(header)
    )


def _same(header: str | None, found: StoredObject) -> bool:
    """Whether the object is still the one of an `If-Range` header: a strong tag, or the time it was modified."""
    return header is None or header.strip() == _etag(found) or _time(header) == _second(found)


def _second(found: StoredObject) -> datetime:
    return found.modified.replace(microsecond=0)


def _time(header: str | None) -> datetime | None:
    """A date of HTTP; None if it is none, which a server ignores."""
    if header is None:
        return None
    try:
        time = parsedate_to_datetime(header)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
