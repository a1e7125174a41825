"""FASHN: run a model, look at the prediction until it has its pictures.

Nothing of it was tried against the real service. See docs/providers.md.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from compute.errors import ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.answers import count_of, json_of, plain_id, vendor_id_of
from compute.providers.calls.http import HttpRequest, HttpResponse
from compute.providers.calls.outcomes import Accepted, Answer, OutcomeUnknownError
from compute.providers.calls.protocol import Failed, Finished, Missing, QueueProtocol, Running, Status
from compute.providers.vendors.refusals import not_its_own, parsed, refusal, retry_after, sentence
from compute.providers.vendors.results import answer_file
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings

__all__ = ["FashnQueue", "edit_inputs", "fashn_account"]

_VENDOR = "fashn"
_CATEGORIES = {
    "ImageLoadError": ErrorCategory.INVALID_INPUT,
    "InputValidationError": ErrorCategory.INVALID_INPUT,
    "PoseError": ErrorCategory.INVALID_INPUT,
    "ContentModerationError": ErrorCategory.CONTENT_POLICY,
    "PollingTimeout": ErrorCategory.PROVIDER_TIMEOUT,
}
_ENDED = {"canceled": ErrorCategory.PROVIDER_ERROR, "time_out": ErrorCategory.PROVIDER_TIMEOUT}


def fashn_account(settings: Settings, *, user: str) -> Account:
    """The account that pays; `user` is the provider that a message names.

    Raises:
        InvalidInput: the key is missing.
    """
    return Account.of_key(_VENDOR, settings.fashn_api_key, setting="FASHN_API_KEY", user=user)


def edit_inputs(settings: Settings, uris: Sequence[str], prompt: str, seed: int) -> tuple[str, dict[str, Any]]:
    """The model and its inputs for an edit of the first image; the second, if there is one, is a garment to put on."""
    if len(uris) == 1:
        return settings.fashn_edit_model, _inputs(seed, image=uris[0], prompt=prompt)
    model = settings.fashn_try_on_model
    if model.startswith("tryon-v1"):
        # The first generation knows garments only, and no words about them.
        return model, _inputs(seed, model_image=uris[0], garment_image=uris[1])
    return model, _inputs(seed, model_image=uris[0], product_image=uris[1], prompt=prompt)


def _inputs(seed: int, **inputs: str) -> dict[str, Any]:
    return {"seed": seed, "output_format": "png", **inputs}


class FashnQueue(QueueProtocol):
    """FASHN's one endpoint, at `base`. The body names the model.

    Example:
        FashnQueue(Account("fashn", key), "https://api.fashn.ai/v1")
    """

    poll_seconds = 2.0

    def __init__(self, account: Account, base: str) -> None:
        super().__init__(account)
        self._base = base.rstrip("/")

    def submit(self, body: Any, webhook: str | None) -> HttpRequest:
        return HttpRequest("POST", f"{self._base}/run", self._headers, body)

    def accepted(self, response: HttpResponse) -> Accepted:
        said = parsed(response)
        if not response.ok:
            raise self._refused(response, said)
        if not isinstance(said, dict) or not isinstance(said.get("id"), str) or not said["id"]:
            raise not_its_own(_VENDOR, response)
        return Accepted(vendor_id_of(_VENDOR, said["id"]))

    def ask(self, accepted: Accepted) -> HttpRequest:
        return HttpRequest("GET", f"{self._base}/status/{quote(accepted.vendor_id, safe='')}", self._headers)

    def status(self, response: HttpResponse) -> Status:
        said = parsed(response)
        if not response.ok:
            error = self._refused(response, said)
            if response.status == 404 and isinstance(error, ProviderFailed):
                return Missing(error)
            raise error
        if not isinstance(said, dict) or not isinstance(said.get("status"), str):
            raise not_its_own(_VENDOR, response)
        word, prediction = said["status"], plain_id(said.get("id")) or ""
        if word == "completed":
            return Finished(self._answer(said, response))
        if word == "failed":
            return Failed(self._failed(said.get("error"), prediction))
        if word in _ENDED:
            told = sentence(_VENDOR, f"The prediction ended as {word}.", prediction, secrets=(self.account.key,))
            return Failed(ProviderFailed(told, category=_ENDED[word]))
        return Running()

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.account.key}"}

    def _answer(self, said: dict[str, Any], response: HttpResponse) -> Answer:
        output = said.get("output")
        addresses = [output] if isinstance(output, str) else output
        if not isinstance(addresses, list) or not addresses or not all(isinstance(one, str) for one in addresses):
            raise OutcomeUnknownError(
                f"The prediction {plain_id(said.get('id'))} of fashn is completed, and has no picture yet."
            )
        units = {"images": float(len(addresses))}
        used = json_of(response.headers.get("x-fashn-credits-used"))
        if (charged := count_of(used)) is not None:
            units["credits"] = charged
        return Answer(tuple(answer_file(_VENDOR, one) for one in addresses), units=units)

    def _failed(self, error: Any, prediction: str) -> ProviderFailed:
        """A failure while it ran, which is not charged."""
        told = error if isinstance(error, dict) else {}
        name = str(told.get("name") or "failed")
        return ProviderFailed(
            sentence(
                _VENDOR,
                f"{told.get('message') or 'The prediction failed.'} ({name})",
                prediction,
                secrets=(self.account.key,),
            ),
            category=_CATEGORIES.get(name, ErrorCategory.PROVIDER_ERROR),
        )

    def _refused(self, response: HttpResponse, said: Any) -> ProviderFailed | OutcomeUnknownError:
        name = said.get("error") if isinstance(said, dict) else None
        if not isinstance(name, str) or not name:
            return not_its_own(_VENDOR, response)
        return refusal(
            _VENDOR,
            f"{said.get('message') or 'It was refused.'} ({name})",
            status=response.status,
            request_id=response.request_id,
            seconds=retry_after(response.headers),
            poor=name == "OutOfCredits",
            secrets=(self.account.key,),
        )
