"""Reads vendors' refusals: when to come again, whose words they are, and what may be done next."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from compute.errors import ProviderFailed
from compute.providers.calls.answers import json_of, without
from compute.providers.calls.http import HttpResponse
from compute.providers.calls.outcomes import OutcomeUnknownError
from compute.schemas.enums import ErrorCategory

__all__ = [
    "LONGEST_PAUSE_SECONDS",
    "USUAL_PAUSE_SECONDS",
    "category_of",
    "not_its_own",
    "parsed",
    "refusal",
    "retry_after",
    "retry_info",
    "sentence",
]

USUAL_PAUSE_SECONDS = 5.0
"""The pause after a refusal for its pace that names none."""
LONGEST_PAUSE_SECONDS = 3600.0
_MOST_WORDS = 600
_HOPELESS = frozenset({401, 402, 403, 404})
_CONTENT = frozenset({400, 413, 415, 422})
_TIMED_OUT = frozenset({408, 504})
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)s$")


def parsed(response: HttpResponse) -> Any:
    """The JSON of an answer, whatever its content type says; None if it is none, or cannot be right."""
    return json_of(response.body)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds until the next try that the headers (names in lower case) ask for, at most an hour; None if they do not.

    Example:
        retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    said = headers.get("retry-after", "").strip()
    seconds = _number(said)
    if seconds is not None:
        return _bounded(seconds)
    try:
        then = parsedate_to_datetime(said)
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        return _bounded((then - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, IndexError, TypeError, OverflowError):
        # Years beyond those of a calendar, digits without end, zones of days.
        return None


def retry_info(details: Any) -> float | None:
    """The same from the details of an error of Google's."""
    for one in details if isinstance(details, list) else ():
        if isinstance(one, dict) and str(one.get("@type", "")).endswith("RetryInfo"):
            matched = _DURATION.match(str(one.get("retryDelay", "")))
            return _bounded(float(matched[1])) if matched else None
    return None


def sentence(vendor: str, words: str, request_id: str | None, *, secrets: Iterable[str] = ()) -> str:
    """A vendor's words as an error message, with its id of the request and without `secrets`. What is cut is cut after
    they are left out.

    Example:
        sentence("fal", "Application not found", "req_1")  # "fal: Application not found (request req_1)"
    """
    clean = without(" ".join(words.split()), secrets := tuple(secrets))
    told = without(request_id or "", secrets)
    if len(clean) > _MOST_WORDS:
        clean = f"{clean[:_MOST_WORDS]}…"
    return f"{vendor}: {clean}{f' (request {told})' if told else ''}"


def category_of(status: int) -> ErrorCategory:
    """The category of a refusal with an HTTP status, unless its words say more."""
    if status in _CONTENT:
        return ErrorCategory.INVALID_INPUT
    return ErrorCategory.PROVIDER_TIMEOUT if status in _TIMED_OUT else ErrorCategory.PROVIDER_ERROR


def refusal(
    vendor: str,
    words: str,
    *,
    status: int,
    request_id: str | None,
    seconds: float | None = None,
    category: ErrorCategory | None = None,
    poor: bool = False,
    secrets: Iterable[str] = (),
) -> ProviderFailed:
    """The error for an answer that says no.

    Args:
        status: Its HTTP status.
        seconds: The pause that it asks for.
        category: None to take that of the status.
        poor: The account would be refused again, whatever the status says: it has no money or no quota left.
    """
    crowded = status == 429 and not poor
    return ProviderFailed(
        sentence(vendor, words, request_id, secrets=secrets),
        category=category or category_of(status),
        seconds=(USUAL_PAUSE_SECONDS if seconds is None else seconds) if crowded else (seconds or 0.0),
        charged=not crowded,
        hopeless=poor or (category is None and status in _HOPELESS),
    )


def not_its_own(vendor: str, response: HttpResponse) -> OutcomeUnknownError:
    """The error for an answer that is not in the vendor's own form: a proxy's page, or one cut short."""
    told = f", request {response.request_id}" if response.request_id else ""
    return OutcomeUnknownError(f"The answer of {vendor} ({response.status}{told}) is not in its usual form.")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _bounded(seconds: float) -> float:
    # Comparisons with what is not a number are false, so it becomes 0.
    return min(seconds, LONGEST_PAUSE_SECONDS) if seconds > 0 else 0.0
