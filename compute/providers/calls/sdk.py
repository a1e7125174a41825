"""One request through a vendor's official client, as paid calls need it: sent once, over a connection of its own, with
one deadline, an answer of bounded size, and a line in the log.

The clients speak through httpx2 (OpenAI, Anthropic, Google) or httpx (Ollama), which are alike. They are imported with
the first question: what only checks requests does without them.
"""

import asyncio
import importlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from compute.errors import ProviderFailed
from compute.providers.calls.answers import without
from compute.providers.calls.http import HttpResponse
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.telemetry import vendor_request

__all__ = ["Outcome", "Refused", "Wire", "http_tls", "loaded", "no_word_of", "one_request"]

Outcome = ProviderFailed | NotDeliveredError | OutcomeUnknownError
Refused = Callable[[HttpResponse], ProviderFailed | OutcomeUnknownError]
"""Says what an answer of another status than 2xx means."""

_CONNECT_SECONDS = 15.0
_MAX_BYTES = 64 * 2**20
"""Of an answer. A stream has some hundred bytes for each token."""
_KEYS = ("authorization", "x-api-key", "x-goog-api-key")
"""Headers of requests that hold keys."""
_OUTCOMES = (ProviderFailed, NotDeliveredError, OutcomeUnknownError)


async def loaded(name: str) -> Any:
    """A client's package. Importing it takes a while, in which nothing else may have to wait."""
    return await asyncio.to_thread(importlib.import_module, name)


class Wire:
    """The request on its way. `options` are those of an `AsyncClient` of httpx or httpx2 that sends it.

    Attributes:
        request_id: The vendor's id of the request, once it has answered.
        secrets: The keys that it carries.
    """

    def __init__(self, http: Any, address: str, seconds: float, headers: Mapping[str, str | None]) -> None:
        self.request_id: str | None = None
        self.error: str | None = None
        self.secrets: list[str] = []
        self._http = http
        self._at = urlsplit(address)
        self._headers = headers
        self._began = time.perf_counter()
        self._has_left = False
        self._status: int | None = None
        self._no: HttpResponse | None = None
        self.options = {
            "verify": http_tls(http),
            "trust_env": False,
            "follow_redirects": False,
            "timeout": http.Timeout(seconds, connect=_CONNECT_SECONDS),
            "limits": http.Limits(max_keepalive_connections=0),
            "event_hooks": {"request": [self._sent], "response": [self._answered]},
        }

    @property
    def status(self) -> int | None:
        """That of the answer, once there is one."""
        return self._status

    def outcome(self, error: Exception, refused: Refused) -> Outcome:
        """What an error of the client's means."""
        chain = list(_chain(error))
        known = next((one for one in chain if isinstance(one, _OUTCOMES)), None)
        if known is not None:
            return known
        if self._no is not None:
            return refused(self._no)
        broken = next((one for one in chain if isinstance(one, (self._http.TransportError, OSError))), None)
        kind = type(broken or error).__name__
        if not self._has_left:
            what = "No connection could be made" if broken else "It could not be sent"
            return NotDeliveredError(f"{what}: {kind}.")
        if any(isinstance(one, (TimeoutError, self._http.TimeoutException)) for one in chain):
            return OutcomeUnknownError("There was no answer in time.")
        return OutcomeUnknownError(f"{'The connection broke' if broken else 'Its answer could not be read'}: {kind}.")

    def line(self) -> ServiceRequest:
        """The request as the log keeps it."""
        ms = round((time.perf_counter() - self._began) * 1000, 1)
        host = self._at.netloc.rpartition("@")[2]
        return ServiceRequest("POST", host, self._at.path, self._status, ms, self.request_id, self.error)

    async def _sent(self, request: Any) -> None:
        for name, value in self._headers.items():
            # What the environment of the process says about them is not asked.
            request.headers.pop(name, None)
            if value is not None:
                request.headers[name] = value
        self.secrets = [request.headers[name].rpartition(" ")[2] for name in _KEYS if name in request.headers]
        # Some clients set limits of their own for each request.
        request.extensions["timeout"] = {**request.extensions.get("timeout", {}), "connect": _CONNECT_SECONDS}
        request.extensions["trace"] = self._traced

    async def _traced(self, event: str, _: Any) -> None:
        self._has_left = self._has_left or event.endswith("send_request_headers.started")

    async def _answered(self, response: Any) -> None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self._status = response.status_code
        self.request_id = HttpResponse(response.status_code, headers, b"").without(self.secrets).request_id
        response.stream = _bounded(self._http, response.stream)
        if not response.is_success:
            self._no = HttpResponse(response.status_code, headers, await response.aread()).without(self.secrets)


@contextmanager
def no_word_of(*secrets: str | None) -> Iterator[None]:
    """Leave keys out of the message of what is raised within: a vendor may repeat them in a failure."""
    try:
        yield
    except _OUTCOMES as error:
        _hushed(error, [secret for secret in secrets if secret])
        raise


@asynccontextmanager
async def one_request(
    http: Any,
    address: str,
    *,
    seconds: float,
    log: list[ServiceRequest],
    refused: Refused,
    headers: Mapping[str, str | None],
) -> AsyncIterator[Wire]:
    """Make one request to `address` within, by a client of the package `http`; its answer must end in `seconds`.

    Args:
        headers: What the request says in these, whatever the client would say; None to leave one out.

    Raises:
        ProviderFailed, NotDeliveredError, OutcomeUnknownError: see `compute.providers.calls.outcomes`.
    """
    wire = Wire(http, address, seconds, headers)
    try:
        with vendor_request("POST", address) as told:
            async with asyncio.timeout(seconds):
                yield wire
            told.answered(wire.status, wire.request_id)
    except Exception as error:
        outcome = _hushed(wire.outcome(error, refused), wire.secrets)
        wire.error = None if isinstance(outcome, ProviderFailed) else str(outcome)
        if outcome is error:
            raise
        raise outcome from error
    finally:
        log.append(wire.line())


def _hushed(error: Outcome, secrets: Sequence[str]) -> Outcome:
    """The error, whose message is changed if it tells one of the keys."""
    error.args = tuple(without(one, secrets) if isinstance(one, str) else one for one in error.args)
    if isinstance(error, ProviderFailed):
        error.detail = without(error.detail, secrets)
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised for, down to the first."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def _bounded(http: Any, stream: Any) -> Any:
    """The body of an answer, which ends with an error once it is larger than any that can be right."""

    class Bounded(http.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in stream:
                size += len(chunk)
                if size > _MAX_BYTES:
                    raise OutcomeUnknownError(f"Its answer is larger than {_MAX_BYTES} bytes.")
                yield chunk

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()


@cache
def http_tls(http: Any) -> ssl.SSLContext:
    """What certificates are trusted, read once for the package `http`."""
    made: ssl.SSLContext = http.create_ssl_context()
    return made
