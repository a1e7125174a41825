"""Google's Gemini API and Vertex: the account, the address, and what an answer that says no means.

Light to import: Google's client is loaded with the first call, by `compute.providers.vendors.google.wire`.
"""

import re
from collections.abc import Mapping
from typing import Any

from compute.errors import InvalidInput, ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.outcomes import OutcomeUnknownError
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings

__all__ = ["VENDOR", "account", "api_version", "base_url", "endpoint", "location", "refusal"]

VENDOR = "gemini"
_LOCATION = "global"
_EUROPE_AND_AMERICA = ("eu", "us")
_DEFAULT_WAIT = 5.0
_LONGEST_WAIT = 3600.0
_NO_MONEY = ("depleted", "prepay", "out of credit")
_WORDS_SHOWN = 600


def account(settings: Settings, *, user: str) -> Account:
    """The account that pays; `user` is the provider that a message names.

    Raises:
        InvalidInput: a setting is missing.
    """
    if settings.gemini_api_key is not None:
        return Account(VENDOR, settings.gemini_api_key.get_secret_value())
    if not settings.google_vertex:
        raise InvalidInput(f"Set GEMINI_API_KEY to use {user}.", field="provider_type")
    if settings.google_credentials_file is None:
        raise InvalidInput(
            f"Set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_API_KEY for Vertex in express mode, to use {user}.",
            field="provider_type",
        )
    if settings.google_cloud_project is None:
        raise InvalidInput(f"Set GOOGLE_CLOUD_PROJECT to use {user}.", field="provider_type")
    return Account(VENDOR, f"project {settings.google_cloud_project}")


def location(settings: Settings) -> str:
    """Where Vertex does its work."""
    return settings.google_cloud_location or _LOCATION


def base_url(settings: Settings) -> str:
    """The service's address, without a slash at its end."""
    if settings.gemini_base_url is not None:
        return settings.gemini_base_url.rstrip("/")
    if not settings.google_vertex:
        return "https://generativelanguage.googleapis.com"
    place = location(settings)
    if settings.gemini_api_key is not None or place == _LOCATION:
        return "https://aiplatform.googleapis.com"
    if place in _EUROPE_AND_AMERICA:
        return f"https://aiplatform.{place}.rep.googleapis.com"
    return f"https://{place}-aiplatform.googleapis.com"


def api_version(settings: Settings) -> str:
    """The version in the path. Names in the environment of a process do not change it."""
    return "v1beta1" if settings.google_vertex else "v1"


def endpoint(settings: Settings, model: str, method: str = "generateContent") -> str:
    """The full address of a model's method."""
    start = f"{base_url(settings)}/{api_version(settings)}"
    if not settings.google_vertex:
        return f"{start}/models/{model}:{method}"
    if settings.gemini_api_key is None:
        start += f"/projects/{settings.google_cloud_project}/locations/{location(settings)}"
    return f"{start}/publishers/google/models/{model}:{method}"


def refusal(
    status: int, body: Any, request_id: str | None = None, *, secret: str | None = None
) -> ProviderFailed | OutcomeUnknownError:
    """The error that an answer with another status than 200 means. `body` is its JSON, or None; `secret` is left out
    of what it says.

    An answer that is not in Google's words comes from something between, and does not tell what Google did.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping) or not isinstance(error.get("message"), str):
        return OutcomeUnknownError(f"It was answered with {status}, and not in the service's own words.")
    status = error["code"] if isinstance(error.get("code"), int) else status
    word = str(error.get("status") or status)
    details = _mappings(error.get("details"))
    words = error["message"].replace(secret, "***") if secret else error["message"]
    message = f"Google: {words[:_WORDS_SHOWN]} ({word}{f', request {request_id}' if request_id else ''})"
    category, hopeless = _meaning(status, word, error["message"], details)
    if status == 429 and not hopeless:
        return ProviderFailed(message, seconds=_wait(details, _DEFAULT_WAIT), charged=False)
    return ProviderFailed(message, category=category, hopeless=hopeless, seconds=_wait(details, 0.0))


def _meaning(status: int, word: str, message: str, details: list[Mapping[str, Any]]) -> tuple[ErrorCategory, bool]:
    """The category of a refusal, and whether the account would be refused again."""
    reasons = {str(one.get("reason")) for one in details}
    if status == 429:
        return ErrorCategory.PROVIDER_ERROR, _no_money(message, details)
    if status in (401, 402, 403, 404) or word == "FAILED_PRECONDITION" or "API_KEY_INVALID" in reasons:
        return ErrorCategory.PROVIDER_ERROR, True
    if status in (400, 413, 422):
        return ErrorCategory.INVALID_INPUT, False
    if status in (408, 504):
        return ErrorCategory.PROVIDER_TIMEOUT, False
    return ErrorCategory.PROVIDER_ERROR, False


def _no_money(message: str, details: list[Mapping[str, Any]]) -> bool:
    """Whether waiting does not help: the account is empty, or its day's quota used up."""
    quotas = [one for detail in details for one in _mappings(detail.get("violations"))]
    if any("PerDay" in str(one.get("quotaId")) for one in quotas):
        return True
    return any(words in message.lower() for words in _NO_MONEY)


def _wait(details: list[Mapping[str, Any]], default: float) -> float:
    """The seconds that RetryInfo asks for."""
    for one in details:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(one.get("retryDelay") or ""))
        if found and str(one.get("@type")).endswith("RetryInfo"):
            return min(float(found[1]), _LONGEST_WAIT)
    return default


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
