"""Conditional and partial requests for stored objects, as RFC 9110 has them (sections 13 and 14)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from compute.api.http.dates import http_date
from compute.storage.base import StoredObject

__all__ = ["Range", "content_headers", "requested_range", "unchanged"]

# One range: `first-last`, `first-` or `-how many of the last`. Nobody has a file of more than 18 digits.
_RANGE = re.compile(r"bytes\s*=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*\Z", re.IGNORECASE)
# One element of a list of tags, which may be empty, and the comma behind it.
_ELEMENT = re.compile(r'[ \t]*(?:((?:W/)?"[!\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|\Z)')


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
    """Headers that every answer about an object carries, with content or without."""
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "ETag": _etag(found),
        "Last-Modified": format_datetime(found.modified.astimezone(UTC), usegmt=True),
        "X-Content-Type-Options": "nosniff",
    }


def unchanged(headers: Headers, found: StoredObject) -> bool:
    """Whether the client has the object already, so that 304 is the answer to its GET or HEAD.

    Raises:
        HTTPException: 412, the object is not the one that `If-Match` or `If-Unmodified-Since` asks for.
    """
    if (wanted := _tags(headers, "if-match")) is not None:
        if not _names(wanted, found, weakly=False):
            raise HTTPException(412, "The object is another one than If-Match asks for.")
    elif (since := _time(headers, "if-unmodified-since")) and _second(found) > since:
        raise HTTPException(412, "The object has changed since then.")
    if (known := _tags(headers, "if-none-match")) is not None:
        return _names(known, found, weakly=True)
    since = _time(headers, "if-modified-since")
    return since is not None and _second(found) <= since


def requested_range(headers: Headers, found: StoredObject) -> Range | None:
    """The part that the client asks for; None for the whole object.

    Several ranges at once, other units than bytes and what is no range are ignored, as the standard allows. So is
    any range of an object that is no longer the one `If-Range` names.

    Raises:
        HTTPException: 416, there is no such part.
    """
    match = _RANGE.match(",".join(headers.getlist("range")))
    if match is None or not _same(headers, found):
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


def _tags(headers: Headers, name: str) -> list[str] | None:
    """The entity tags of a header, or `*`; None if it is absent or no list of tags, which is ignored like a malformed
    date."""
    text = ",".join(headers.getlist(name))
    tags, position = [], 0
    while position < len(text):
        if (match := _ELEMENT.match(text, position)) is None:
            return ["*"] if text.strip() == "*" else None
        if match[1]:
            tags.append(match[1])
        position = match.end()
    return tags or None


def _names(tags: list[str], found: StoredObject, *, weakly: bool) -> bool:
    """Whether a list of entity tags has the object's."""
    own = _etag(found)
    return any(tag in ("*", own) or (weakly and tag == f"W/{own}") for tag in tags)


def _same(headers: Headers, found: StoredObject) -> bool:
    """Whether the object is still the one of an `If-Range` header: a strong tag, or the time it was modified."""
    given = headers.getlist("if-range")
    return not given or given == [_etag(found)] or _time(headers, "if-range") == _second(found)


def _second(found: StoredObject) -> datetime:
    return found.modified.replace(microsecond=0)


def _time(headers: Headers, name: str) -> datetime | None:
    """The date of a header; None if it is absent, sent twice, or no date of HTTP."""
    given = headers.getlist(name)
    return http_date(given[0]) if len(given) == 1 else None
