"""Google's Gemini API and Vertex: the account, the address, and what an answer that says no means.

Light to import: Google's client is loaded with the first call, by `compute.providers.vendors.google.wire`.
"""

from collections.abc import Mapping
from typing import Any

from compute.errors import InvalidInput, ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.answers import mapping, mappings
from compute.providers.calls.outcomes import OutcomeUnknownError
from compute.providers.vendors import refusals
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings

__all__ = ["VENDOR", "account", "api_version", "base_url", "endpoint", "forbids", "location", "refusal"]

VENDOR = "gemini"
_LOCATION = "global"
_EUROPE_AND_AMERICA = ("eu", "us")
_NO_MONEY = ("depleted", "prepay", "out of credit")
_FORBIDDEN = ("SAFETY", "PROHIBITED", "BLOCKLIST", "RECITATION", "SPII", "MODEL_ARMOR", "JAILBREAK")
"""Parts of the words for what the rules of use forbid; new words are made of them."""


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
    error = mapping(mapping(body).get("error"))
    if not isinstance(error.get("message"), str):
        return OutcomeUnknownError(f"It was answered with {status}, and not in the service's own words.")
    status = error["code"] if isinstance(error.get("code"), int) else status
    word = str(error.get("status") or status)
    details = mappings(error.get("details"))
    is_hopeless = _is_hopeless(status, word, error["message"], details)
    return refusals.refusal(
        "Google",
        f"{error['message']} ({word})",
        status=status,
        request_id=request_id,
        seconds=refusals.retry_info(details),
        category=ErrorCategory.PROVIDER_ERROR if is_hopeless else None,
        poor=is_hopeless,
        secrets=(secret,) if secret else (),
    )


def forbids(reason: str) -> bool:
    """Whether the reason for which an answer ended is that Google's rules forbid it.

    Example:
        forbids("SAFETY"), forbids("IMAGE_SAFETY"), forbids("STOP")  # (True, True, False)
    """
    return any(word in reason for word in _FORBIDDEN)


def _is_hopeless(status: int, word: str, message: str, details: list[Mapping[str, Any]]) -> bool:
    """Whether the account would be refused again, whatever the status says."""
    if status == 429:
        return _no_money(message, details)
    return word == "FAILED_PRECONDITION" or any(one.get("reason") == "API_KEY_INVALID" for one in details)


def _no_money(message: str, details: list[Mapping[str, Any]]) -> bool:
    """Whether waiting does not help: the account is empty, or its day's quota used up."""
    quotas = [one for detail in details for one in mappings(detail.get("violations"))]
    if any("PerDay" in str(one.get("quotaId")) for one in quotas):
        return True
    return any(words in message.lower() for words in _NO_MONEY)
