"""Magnific, formerly Freepik: upscalers that are submitted to, looked at and collected.

Nothing of it was tried against the real service; that a mode lists its tasks, and how, is known from third parties
only. See docs/providers.md.
"""

import re
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from compute.errors import ProviderFailed
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.calls.answers import count_of, plain_id, vendor_id_of
from compute.providers.calls.http import HttpRequest, HttpResponse
from compute.providers.calls.outcomes import Accepted, Answer, OutcomeUnknownError
from compute.providers.calls.protocol import Failed, Finished, Missing, QueueProtocol, Running, Status
from compute.providers.vendors.pictures import data_uri, publish_at
from compute.providers.vendors.queued import queued
from compute.providers.vendors.refusals import not_its_own, parsed, refusal, retry_after, sentence
from compute.providers.vendors.results import answer_file
from compute.schemas.enums import ErrorCategory, ProviderCapability, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Refine
from compute.tasks.registry import TaskKind

__all__ = ["CREATIVE", "PRECISION", "MagnificProvider", "MagnificQueue", "magnific_account", "mode_of"]

ConfigT = TypeVar("ConfigT", bound=JsonBody)

CREATIVE = "image-upscaler"
PRECISION = "image-upscaler-precision-v2"
_UPSCALES = frozenset(
    {
        ProviderCapability.UPSCALE_2X,
        ProviderCapability.UPSCALE_4X,
        ProviderCapability.UPSCALE_8X,
        ProviderCapability.UPSCALE_FLOAT,
        ProviderCapability.OUTPUT_SIZE,
    }
)
"""What both modes offer."""
_VENDOR = "magnific"
_POLICY = re.compile(r"nsfw|moderat|content policy|safety", re.IGNORECASE)
_CLOCKS_DIFFER_SECONDS = 30.0


def magnific_account(settings: Settings, *, user: str) -> Account:
    """The account that pays; `user` is the provider that a message names.

    Raises:
        InvalidInput: the key is missing.
    """
    return Account.of_key(_VENDOR, settings.magnific_api_key, setting="MAGNIFIC_API_KEY", user=user)


class MagnificQueue(QueueProtocol):
    """One mode, at `base`; `header` is that of the key.

    Example:
        MagnificQueue(account, "https://api.magnific.com", "x-magnific-api-key", CREATIVE)
    """

    poll_seconds = 2.0

    def __init__(self, account: Account, base: str, header: str, mode: str) -> None:
        super().__init__(account)
        self._url = f"{base.rstrip('/')}/v1/ai/{mode}"
        self._header = header

    def submit(self, body: Any, webhook: str | None) -> HttpRequest:
        return HttpRequest("POST", self._url, self._headers, body)

    def accepted(self, response: HttpResponse) -> Accepted:
        said = parsed(response)
        if not response.ok:
            raise self._refused(response, said)
        task = _data_of(said).get("task_id")
        if not isinstance(task, str) or not task:
            raise not_its_own(_VENDOR, response)
        return Accepted(vendor_id_of(_VENDOR, task))

    def ask(self, accepted: Accepted) -> HttpRequest:
        return HttpRequest("GET", f"{self._url}/{quote(accepted.vendor_id, safe='')}", self._headers)

    def status(self, response: HttpResponse) -> Status:
        said = parsed(response)
        if not response.ok:
            error = self._refused(response, said)
            if response.status == 404 and isinstance(error, ProviderFailed):
                return Missing(error)
            raise error
        data = _data_of(said)
        word, task = data.get("status"), plain_id(data.get("task_id")) or ""
        if not isinstance(word, str):
            raise not_its_own(_VENDOR, response)
        if word == "FAILED":
            return Failed(ProviderFailed(sentence(_VENDOR, _why(data), task, secrets=(self.account.key,))))
        if word != "COMPLETED":
            return Running()
        made = data.get("generated")
        if not isinstance(made, list) or not made or not all(isinstance(one, str) for one in made):
            raise OutcomeUnknownError(f"The task {task} of magnific is completed, and has no picture yet.")
        files = tuple(answer_file(_VENDOR, one) for one in made)
        kept = {"has_nsfw": data["has_nsfw"]} if "has_nsfw" in data else {}
        return Finished(Answer(files, data=kept, units={"images": float(len(files))}))

    def find(self) -> HttpRequest:
        return HttpRequest("GET", self._url, self._headers)

    def found(self, response: HttpResponse, body: Any, age_seconds: float) -> Accepted | None:
        """The one task of the list that was made when the call was, with all its parameters. A list that tells no
        times and parameters tells nothing, and neither do the usual parameters without a prompt: another's picture
        would be worse than none."""
        listed = parsed(response) if response.ok else None
        tasks = listed.get("data") if isinstance(listed, dict) else None
        wanted = {name: value for name, value in body.items() if name != "image"}
        fits = [
            one["task_id"]
            for one in (tasks if isinstance(tasks, list) else ())
            if isinstance(one, dict)
            and isinstance(one.get("task_id"), str)
            and all(one.get(name) == value for name, value in wanted.items())
            and abs(_age(one.get("created_at")) - age_seconds) <= _CLOCKS_DIFFER_SECONDS
        ]
        return Accepted(vendor_id_of(_VENDOR, fits[0])) if len(fits) == 1 and wanted.get("prompt") else None

    @property
    def _headers(self) -> dict[str, str]:
        return {self._header: self.account.key}

    def _refused(self, response: HttpResponse, said: Any) -> ProviderFailed | OutcomeUnknownError:
        words = said.get("message") if isinstance(said, dict) else None
        if not isinstance(words, str):
            return not_its_own(_VENDOR, response)
        invalid = said.get("invalid_params")
        named = [one for one in (invalid if isinstance(invalid, list) else ()) if isinstance(one, dict)]
        told = "; ".join(f"{one.get('field') or one.get('name')} {one.get('reason')}" for one in named)
        refused_content = response.status in (400, 422) and _POLICY.search(words) is not None
        return refusal(
            _VENDOR,
            f"{words}: {told}" if told else words,
            status=response.status,
            request_id=response.request_id,
            seconds=retry_after(response.headers),
            category=ErrorCategory.CONTENT_POLICY if refused_content else None,
            secrets=(self.account.key,),
        )


class MagnificProvider(RemoteProvider[ConfigT]):
    """One that refines by a mode of Magnific's."""

    queue = "freepik"
    mode: ClassVar[str]

    def account(self, settings: Settings) -> Account:
        return magnific_account(settings, user=self.name)

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return _UPSCALES if kind.name is TaskType.REFINE else frozenset()

    def reopen(self, vendor: str, endpoint: str, settings: Settings) -> MagnificQueue | None:
        return self._queue_of(mode_of(endpoint), settings) if vendor == _VENDOR else None

    async def refine(self, assignment: Assignment[ConfigT], operation: Refine, parameters: dict[str, Any]) -> None:
        """Have the image enlarged with these parameters of the mode, and publish it at the size of the task.

        Raises:
            ProviderFailed, CallUncertain, LeaseLost: as `JobCalls.queued`.
        """
        image = (await data_uri(assignment.context, operation.image)).partition(",")[2]
        protocol = self._queue_of(self.mode, assignment.settings)
        made = await queued(assignment, "image", protocol, {"image": image, **parameters})
        await publish_at(assignment.context, made, (operation.width, operation.height), model=self.mode)

    def _queue_of(self, mode: str, settings: Settings) -> MagnificQueue:
        return MagnificQueue(self.account(settings), settings.magnific_base_url, settings.magnific_key_header, mode)


def mode_of(endpoint: str) -> str:
    """The mode that an address is of.

    Example:
        mode_of("api.magnific.com/v1/ai/image-upscaler")  # "image-upscaler"
    """
    return endpoint.rpartition("/")[2]


def _data_of(said: Any) -> dict[str, Any]:
    data = said.get("data") if isinstance(said, dict) else None
    return data if isinstance(data, dict) else {}


def _why(data: dict[str, Any]) -> str:
    """A task says why it failed, if it does, in a field that no page names."""
    told = data.get("error") or data.get("message")
    return str(told) if told else "The task failed."


def _age(said: Any) -> float:
    """Seconds since a time, as ISO 8601 or in Unix seconds; endless for what is neither."""
    if (seconds := count_of(said)) is not None:
        return datetime.now(UTC).timestamp() - seconds
    try:
        then = datetime.fromisoformat(str(said))
    except ValueError:
        return float("inf")
    return (datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()
