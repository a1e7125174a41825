"""Requests to vendors: one at a time, each with a deadline, none of them ever repeated behind the caller's back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from compute.providers.calls.answers import bytes_without, plain_id, without
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.telemetry import vendor_request

__all__ = ["HttpClient", "HttpRequest", "HttpResponse"]

_MAX_BYTES = 64 * 2**20
"""Of an answer: pictures come as base64 in it."""
_CONNECT_SECONDS = 15.0
_SHORTEST_KEY = 8
"""Characters. What is shorter than any key stands in answers for other reasons."""
_ID_HEADERS = ("x-fal-request-id", "x-request-id", "request-id", "x-goog-request-id")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a vendor. `headers` hold its secrets and are never logged.

    Attributes:
        seconds: Until the end of the answer.
        max_bytes: Of the answer.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float = 60.0
    max_bytes: int = _MAX_BYTES

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys in the headers, such as `Key id:secret`, whole and without the part that is no secret."""
        words = [value.rpartition(" ")[2] for value in self.headers.values()]
        return (*words, *(word.partition(":")[2] for word in words))


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def request_id(self) -> str | None:
        """The vendor's own id for this request."""
        return next((told for name in _ID_HEADERS if (told := plain_id(self.headers.get(name))) is not None), None)

    def without(self, secrets: Sequence[str]) -> "HttpResponse":
        """The same with *** in place of each secret: what quotes the answer tells no key that a vendor repeats."""
        secrets = [secret for secret in secrets if len(secret) >= _SHORTEST_KEY]
        headers = {name: without(value, secrets) for name, value in self.headers.items()}
        return HttpResponse(self.status, headers, bytes_without(self.body, secrets))


class HttpClient:
    """Sends requests to addresses that the operator has set. Use it within one event loop, and close it."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()

    async def pay(self, request: HttpRequest, log: list[ServiceRequest]) -> HttpResponse:
        """Send a request that costs money, over a connection of its own: one that was kept may have ended unseen, and
        then nobody knows whether the request arrived.

        Raises:
            NotDeliveredError: no connection was made.
            OutcomeUnknownError: there was no whole answer.
        """
        # The vendor is told nothing of the trace.
        with vendor_request(request.method, request.url) as told:
            response = await self._send(request, log, paid=True)
            told.answered(response.status, response.request_id)
            return response

    async def ask(self, request: HttpRequest, log: list[ServiceRequest]) -> HttpResponse:
        """Send a request that may be sent again. Raises what `pay` does."""
        return await self._send(request, log, paid=False)

    async def _send(self, request: HttpRequest, log: list[ServiceRequest], *, paid: bool) -> HttpResponse:
        began = time.perf_counter()
        status: int | None = None
        request_id: str | None = None
        failure: str | None = None
        on_its_way = _OnItsWay()
        try:
            async with (
                _outcomes(on_its_way),
                asyncio.timeout(request.seconds),
                self._begun(request, paid, on_its_way) as response,
            ):
                status = response.status
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = await _read(response, request.max_bytes)
                answer = HttpResponse(status, headers, body).without(request.secrets)
                request_id = answer.request_id
                return answer
        except (NotDeliveredError, OutcomeUnknownError) as error:
            failure = str(error)
            raise
        finally:
            ms = round((time.perf_counter() - began) * 1000, 1)
            host, path = _place(request.url)
            _note(log, ServiceRequest(request.method, host, path, status, ms, request_id, failure))

    def _begun(self, request: HttpRequest, paid: bool, on_its_way: "_OnItsWay") -> Any:
        session = self._session(paid)
        headers, body = _written(request)
        return session.request(
            request.method,
            URL(request.url, encoded=True).update_query(request.query) if request.query else request.url,
            headers=headers,
            data=body,
            allow_redirects=False,
            trace_request_ctx=on_its_way,
        )

    def _session(self, paid: bool) -> aiohttp.ClientSession:
        if paid not in self._sessions:
            self._sessions[paid] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=paid, ttl_dns_cache=60),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                trace_configs=[_tracing()],
            )
        return self._sessions[paid]


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            raise OutcomeUnknownError(f"Its answer is larger than {most} bytes.")
    return bytes(body)


@dataclass(slots=True)
class _OnItsWay:
    """Whether any of a request may have left."""

    has_left: bool = False


def _written(request: HttpRequest) -> tuple[dict[str, str], bytes | None]:
    """Headers and body as they leave, which is nothing that aiohttp could find wanting with a connection made.

    Raises:
        NotDeliveredError: they cannot be written.
    """
    if not all(text.isascii() and text.isprintable() for one in request.headers.items() for text in one):
        raise NotDeliveredError("It could not be sent: a header, perhaps the key, has characters that none may have.")
    headers = {"User-Agent": "compute", **request.headers}
    if request.json is None:
        return headers, None
    try:
        return headers | {"Content-Type": "application/json"}, json.dumps(request.json).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise NotDeliveredError(f"It could not be sent: {type(error).__name__}.") from error


def _tracing() -> aiohttp.TraceConfig:
    async def leaves(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceRequestHeadersSentParams) -> None:
        context.trace_request_ctx.has_left = True

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(leaves)
    return tracing


def _place(address: str) -> tuple[str, str]:
    """Host and path, as the log has them."""
    try:
        url = URL(address)
        return url.authority, url.path
    except ValueError:
        return "", ""


@asynccontextmanager
async def _outcomes(on_its_way: _OnItsWay) -> AsyncIterator[None]:
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
        raise NotDeliveredError(f"No connection could be made: {type(error).__name__}.") from error
    except TimeoutError as error:
        raise OutcomeUnknownError("There was no answer in time.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise OutcomeUnknownError(f"The connection broke: {type(error).__name__}.") from error
    except ValueError as error:
        # A header, an address or a body that cannot be written.
        if not on_its_way.has_left:
            raise NotDeliveredError(f"It could not be sent: {type(error).__name__}.") from error
        raise OutcomeUnknownError(f"Its answer could not be read: {type(error).__name__}.") from error


def _note(log: list[ServiceRequest], one: ServiceRequest) -> None:
    """Add a line; polls that say the same as the one before are counted in it."""
    last = log[-1] if log else None
    if last is not None and _says(last) == _says(one):
        log[-1] = replace(one, ms=round(last.ms + one.ms, 1), times=last.times + 1)
    else:
        log.append(one)


def _says(one: ServiceRequest) -> tuple[object, ...]:
    return one.method, one.host, one.path, one.status, one.error
