"""fal's queue: submit to an app, look, fetch the result, cancel.

Nothing of it was tried against the real service. See docs/providers.md.
"""

import re
from typing import Any
from urllib.parse import quote

from yarl import URL

from compute.errors import ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.answers import count_of, is_plain, total, vendor_id_of
from compute.providers.calls.http import HttpRequest, HttpResponse
from compute.providers.calls.outcomes import Accepted, Answer, OutcomeUnknownError
from compute.providers.calls.protocol import Failed, Finished, Missing, QueueProtocol, Running, Status
from compute.providers.vendors.refusals import category_of, not_its_own, parsed, refusal, retry_after, sentence
from compute.providers.vendors.results import answer_file
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings

__all__ = ["APP_ID", "FalQueue", "fal_account", "is_app_id"]

APP_ID = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){1,6}$"
"""The pattern of an app's id: owner, app and, if it has any, the model's path."""
_VENDOR = "fal"
_NAMESPACES = frozenset({"workflows", "comfy"})
_MODEL_CATEGORIES = {
    "content_policy_violation": ErrorCategory.CONTENT_POLICY,
    "image_too_large": ErrorCategory.INVALID_INPUT,
    "image_too_small": ErrorCategory.INVALID_INPUT,
    "image_load_error": ErrorCategory.INVALID_INPUT,
    "file_download_error": ErrorCategory.INVALID_INPUT,
    # Another seed may give one.
    "no_media_generated": ErrorCategory.PROVIDER_ERROR,
    "downstream_service_error": ErrorCategory.PROVIDER_ERROR,
    "generation_timeout": ErrorCategory.PROVIDER_TIMEOUT,
}
_CATEGORIES = _MODEL_CATEGORIES | {
    "bad_request": ErrorCategory.INVALID_INPUT,
    "request_timeout": ErrorCategory.PROVIDER_TIMEOUT,
    "startup_timeout": ErrorCategory.PROVIDER_TIMEOUT,
    "runner_connection_timeout": ErrorCategory.PROVIDER_TIMEOUT,
}
_MEDIA = ("images", "image", "videos", "video")
_LONGEST_TEXT = 2000
"""Characters of a text in a result that is kept as data."""


def fal_account(settings: Settings, *, user: str) -> Account:
    """The account that pays; `user` is the provider that a message names.

    Raises:
        InvalidInput: the key is missing.
    """
    return Account.of_key(_VENDOR, settings.fal_key, setting="FAL_KEY", user=user)


def is_app_id(text: str) -> bool:
    """Whether it can be the id of an app."""
    return re.fullmatch(APP_ID, text) is not None


class FalQueue(QueueProtocol):
    """One app, through the queue at `base`.

    Args:
        needs_files: An answer without a picture or clip is a failure.

    Example:
        FalQueue(Account("fal", key), "https://queue.fal.run", "fal-ai/flux/dev")
    """

    def __init__(self, account: Account, base: str, app: str, *, needs_files: bool = True) -> None:
        super().__init__(account)
        self._base = base.rstrip("/")
        self._app = app
        self._needs_files = needs_files

    def submit(self, body: Any, webhook: str | None) -> HttpRequest:
        query = {"fal_webhook": webhook} if webhook else {}
        return HttpRequest("POST", f"{self._base}/{self._app}", self._headers, body, query)

    def accepted(self, response: HttpResponse) -> Accepted:
        said = parsed(response)
        if not response.ok:
            raise self._refused(response, said)
        if not isinstance(said, dict) or not isinstance(said.get("request_id"), str) or not said["request_id"]:
            raise not_its_own(_VENDOR, response)
        addresses = {name: said[name] for name in ("status_url", "response_url", "cancel_url") if name in said}
        known = {name: one for name, one in addresses.items() if isinstance(one, str) and is_plain(one)}
        return Accepted(vendor_id_of(_VENDOR, said["request_id"]), known)

    def ask(self, accepted: Accepted) -> HttpRequest:
        return HttpRequest("GET", self._address(accepted, "status_url", "/status"), self._headers)

    def status(self, response: HttpResponse) -> Status:
        said = parsed(response)
        word = said.get("status") if isinstance(said, dict) else None
        if not isinstance(said, dict) or not isinstance(word, str) or response.status >= 500:
            error = self._refused(response, said)
            if response.status == 404 and isinstance(error, ProviderFailed):
                return Missing(error)
            raise error
        if word != "COMPLETED":
            return Running()
        kind = said.get("error_type")
        if said.get("error") and isinstance(kind, str) and kind not in _MODEL_CATEGORIES:
            return Failed(self._failed(str(said["error"]), kind, None, response.request_id))
        # What a model says is in the result.
        return Finished()

    def fetch(self, accepted: Accepted) -> HttpRequest:
        return HttpRequest("GET", self._address(accepted, "response_url", ""), self._headers)

    def answer(self, response: HttpResponse) -> Answer:
        said = parsed(response)
        if not response.ok:
            raise self._result_refused(response, said)
        if not isinstance(said, dict):
            raise not_its_own(_VENDOR, response)
        media = _media_of(said)
        if self._needs_files and not media:
            raise ProviderFailed(sentence(_VENDOR, "The result has no picture.", response.request_id))
        files = tuple(answer_file(_VENDOR, one["url"]) for one in media)
        return Answer(files, data=_short(said), units=_units(media))

    def cancel(self, accepted: Accepted) -> HttpRequest:
        return HttpRequest("PUT", self._address(accepted, "cancel_url", "/cancel"), self._headers)

    def accepts_webhook(self) -> bool:
        return True

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Key {self.account.key}"}

    def _address(self, accepted: Accepted, name: str, step: str) -> str:
        """The address that the answer gave. The key goes to no other origin than the one that is set."""
        given = accepted.addresses.get(name, "")
        if given and _origin(given) == _origin(self._base):
            return given
        parts = self._app.split("/")
        base = "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])
        return f"{self._base}/{base}/requests/{quote(accepted.vendor_id, safe='')}{step}"

    def _refused(self, response: HttpResponse, said: Any) -> ProviderFailed | OutcomeUnknownError:
        """The error for an answer that is not a success."""
        detail = said.get("detail") if isinstance(said, dict) else None
        if isinstance(detail, list) and detail:
            kind = _kind_of(detail)
            return self._failed(_words(detail), kind, response, response.request_id)
        if isinstance(detail, str) and response.status >= 400:
            return refusal(
                _VENDOR,
                detail,
                status=response.status,
                request_id=response.request_id,
                seconds=retry_after(response.headers),
                secrets=self._secrets,
            )
        return not_its_own(_VENDOR, response)

    def _result_refused(self, response: HttpResponse, said: Any) -> ProviderFailed | OutcomeUnknownError:
        """The error for a result that is not there. Only a model's own words are final: what the platform says may
        change, and the result with it."""
        error = self._refused(response, said)
        if isinstance(error, OutcomeUnknownError) or isinstance(said["detail"], list):
            return error
        return error if response.status == 422 else OutcomeUnknownError(error.detail)

    def _failed(self, words: str, kind: str, response: HttpResponse | None, request_id: str | None) -> ProviderFailed:
        """The error for a run that failed as `kind`. Status and headers count where the kind is not known."""
        status = 500 if response is None else response.status
        headers = {} if response is None else response.headers
        return refusal(
            _VENDOR,
            f"{words.rstrip('.')} ({kind})" if kind and kind not in words else words,
            status=status,
            request_id=request_id,
            seconds=retry_after(headers),
            category=_category(kind, status, retryable=headers.get("x-fal-retryable", "").lower() == "true"),
            secrets=self._secrets,
        )

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (self.account.key, self.account.key.partition(":")[2])


def _category(kind: str, status: int, *, retryable: bool) -> ErrorCategory:
    if kind in _CATEGORIES:
        return _CATEGORIES[kind]
    told = category_of(status)
    return ErrorCategory.PROVIDER_ERROR if retryable and told is ErrorCategory.INVALID_INPUT else told


def _origin(address: str) -> str:
    try:
        return str(URL(address, encoded=True).origin())
    except ValueError:
        return ""


def _kind_of(detail: list[Any]) -> str:
    first = detail[0]
    return str(first.get("type", "")) if isinstance(first, dict) else ""


def _words(detail: list[Any]) -> str:
    """A model's messages, each with the place that it is about."""
    told = []
    for one in detail:
        if isinstance(one, dict):
            place = ".".join(map(str, one["loc"])) if isinstance(one.get("loc"), list) else ""
            told.append(f"{one.get('msg', 'It failed.')}{f' [{place}]' if place else ''}")
        else:
            told.append(str(one))
    return " ".join(told)


def _media_of(said: dict[str, Any]) -> list[dict[str, Any]]:
    """The pictures and clips of a result: those of the fields that most apps have, else of any field."""
    usual = [one for name in _MEDIA for one in _with_urls(said.get(name))]
    return usual or [
        one
        for value in said.values()
        for one in _with_urls(value)
        if str(one.get("content_type", "")).startswith(("image/", "video/"))
    ]


def _with_urls(value: Any) -> list[dict[str, Any]]:
    found = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict) and isinstance(one.get("url"), str) and one["url"]:
            found.append(one)
        elif isinstance(one, str) and one.startswith(("https://", "http://", "data:image/", "data:video/")):
            found.append({"url": one})
    return found


def _units(media: list[dict[str, Any]]) -> dict[str, float]:
    """What is paid for, as far as the result tells it."""
    units: dict[str, float] = {}
    clips = [one for one in media if str(one.get("content_type", "")).startswith("video/")]
    if len(media) > len(clips):
        units["images"] = float(len(media) - len(clips))
    sides = [(count_of(one.get("width")), count_of(one.get("height"))) for one in media if one not in clips]
    pixels = total(width * height for width, height in sides if width and height)
    if pixels:
        units["megapixels"] = pixels / 1e6
    seconds = total(one.get("duration") for one in clips)
    return units if seconds is None else units | {"seconds": seconds}


def _short(value: Any) -> Any:
    """The same without pictures in base64 and other long texts."""
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    if isinstance(value, str) and (value.startswith("data:") or len(value) > _LONGEST_TEXT):
        return f"{value[:40]}…"
    return value
