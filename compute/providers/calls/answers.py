"""Reads what vendors' answers say, which may be anything: JSON, counts, and ids of requests."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from compute.providers.calls.outcomes import OutcomeUnknownError
from compute.schemas.fields import bounded_depth_of

__all__ = [
    "bytes_without",
    "count_of",
    "counts_of",
    "is_plain",
    "json_of",
    "mapping",
    "mappings",
    "plain_id",
    "total",
    "vendor_id_of",
    "without",
]

_DEEPEST = 100
"""Levels of an answer. Real ones have about ten; far deeper ones would end the recursion of who reads them."""
_LONGEST_ID = 256
_LONGEST_COUNT = 1e15


def json_of(text: str | bytes | None) -> Any:
    """What a text means as JSON, whatever its content type says; None if it is none, or is nested too deep."""
    try:
        return bounded_depth_of(json.loads(text or ""), _DEEPEST)
    except (ValueError, RecursionError):
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object of an answer; empty if it is none."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list of an answer; none if it is no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def count_of(value: Any) -> float | None:
    """An amount that is paid for; None for what is no finite number of at least 0.

    Example:
        count_of("many"), count_of(-1), count_of(12)  # (None, None, 12.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Comparisons with what is not a number are false.
    return float(value) if 0 <= value <= _LONGEST_COUNT else None


def counts_of(units: dict[str, Any]) -> dict[str, float]:
    """Those of the amounts that are amounts."""
    return {name: count for name, value in units.items() if (count := count_of(value)) is not None}


def total(counts: Iterable[Any]) -> float | None:
    """The sum of what can be counted; None if nothing can."""
    found = [count for one in counts if (count := count_of(one)) is not None]
    return sum(found) if found else None


def is_plain(text: str) -> bool:
    """Whether it consists of printable ASCII, without spaces."""
    return text.isascii() and text.isprintable() and " " not in text


def plain_id(value: Any) -> str | None:
    """A vendor's id of a request as messages and the log have it: bounded, and without what no database keeps. None for
    what is no text."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(one if one.isprintable() else "?" for one in value[:_LONGEST_ID])


def vendor_id_of(vendor: str, value: str) -> str:
    """An id by which a vendor's queue is asked how it goes, as it came.

    Raises:
        OutcomeUnknownError: nobody could ask by it.
    """
    if len(value) > _LONGEST_ID or not value.isprintable() or value in (".", ".."):
        raise OutcomeUnknownError(
            f"{vendor} has taken the request, and its id for it cannot be used: it is too long, is part of a path, or "
            "has characters that cannot be printed."
        )
    return value


def without(text: str, secrets: Iterable[str]) -> str:
    """The text with *** in place of each secret."""
    for form in _forms(secrets):
        text = text.replace(form, "***")
    return text


def bytes_without(body: bytes, secrets: Iterable[str]) -> bytes:
    """The same for an answer as it came."""
    for form in _forms(secrets):
        body = body.replace(form.encode(), b"***")
    return body


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        if secret:
            yield secret
            # Some write a slash in JSON with a backslash.
            yield secret.replace("/", "\\/")
