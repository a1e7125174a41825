"""Google's client, google-genai, as paid calls need it. Imports the client; import this inside the call.

Left to itself the client would send a paid request twice: over aiohttp it repeats one whose connection broke, and it
asks on when an answer says CONTINUATION. It also reads keys, addresses and projects from the environment. Here it gets
an httpx2 client that keeps no connection and follows no redirect, credentials and an address of the settings, and no
retries.
"""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from google.auth.exceptions import GoogleAuthError, TransportError
from google.genai import Client, errors, types
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from compute.errors import ProviderFailed
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from compute.providers.vendors.google.account import (
    account,
    api_version,
    as_json,
    base_url,
    endpoint,
    location,
    refusal,
)
from compute.settings import Settings

__all__ = ["generate", "open_client"]

_CONNECT_SECONDS = 15.0
_MAX_BYTES = 64 * 2**20
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.InvalidURL,
)


async def generate(
    settings: Settings,
    model: str,
    contents: list[types.Content],
    config: types.GenerateContentConfig,
    *,
    seconds: float,
    log: list[ServiceRequest],
    user: str,
) -> dict[str, Any]:
    """Make one paid `generateContent` request; the answer's JSON as it came. `seconds`: until its end.

    Raises:
        ProviderFailed, NotDeliveredError, OutcomeUnknownError: see `compute.providers.calls.outcomes`.
    """
    raw = config.model_copy(
        update={
            "should_return_http_response": True,
            "automatic_continuation": False,
            "automatic_function_calling": types.AutomaticFunctionCallingConfig(disable=True),
        }
    )
    address = endpoint(settings, model)
    async with open_client(settings, seconds=seconds, log=log, address=address, user=user) as client:
        response = await client.aio.models.generate_content(model=model, contents=contents, config=raw)
        said = response.sdk_http_response
        answer = await asyncio.to_thread(as_json, said.body if said else None)
    if not isinstance(answer, dict):
        raise OutcomeUnknownError("Its answer is not the JSON that the service promises.")
    return answer


@asynccontextmanager
async def open_client(
    settings: Settings, *, seconds: float, log: list[ServiceRequest], address: str, user: str
) -> AsyncIterator[Client]:
    """A client for one paid request, to `address`, that is made within. What goes wrong within is raised as
    `compute.providers.calls.outcomes` says, and the request is noted in `log`."""
    line = _Line(address, settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else None)
    began = time.perf_counter()
    credentials = await _credentials(settings)
    account(settings, user=user)
    shared = {"verify": _tls(), "trust_env": False}
    try:
        async with _outcomes(line), asyncio.timeout(seconds), _http(line, shared) as http:
            with httpx2.Client(**shared) as unused:  # type: ignore[arg-type]
                client = _client(settings, credentials, seconds, http, unused)
                yield client
    except (ProviderFailed, NotDeliveredError, OutcomeUnknownError) as error:
        line.error = None if isinstance(error, ProviderFailed) else str(error)
        raise
    finally:
        log.append(line.request(began))


class _Line:
    """What the log will say of a request."""

    def __init__(self, address: str, secret: str | None) -> None:
        self.parts = urlsplit(address)
        self.secret = secret
        self.has_left = False
        self.status: int | None = None
        self.request_id: str | None = None
        self.error: str | None = None

    async def sent(self, request: httpx2.Request) -> None:
        self.has_left = True
        timeout = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {**timeout, "connect": _CONNECT_SECONDS}

    async def answered(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.request_id = response.headers.get("x-goog-request-id") or response.headers.get("x-request-id")
        response.stream = _Bounded(response.stream)

    def request(self, began: float) -> ServiceRequest:
        ms = round((time.perf_counter() - began) * 1000, 1)
        return ServiceRequest("POST", self.parts.netloc, self.parts.path, self.status, ms, self.request_id, self.error)


class _Bounded(httpx2.AsyncByteStream):
    """An answer that ends with an error once it is larger than any that can be right."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > _MAX_BYTES:
                raise OutcomeUnknownError(f"Its answer is larger than {_MAX_BYTES} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _http(line: _Line, shared: dict[str, Any]) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        **shared,
        limits=httpx2.Limits(max_keepalive_connections=0),
        event_hooks={"request": [line.sent], "response": [line.answered]},
    )


def _client(
    settings: Settings, credentials: Any, seconds: float, http: httpx2.AsyncClient, unused: httpx2.Client
) -> Client:
    key = settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else None
    in_project = settings.google_vertex and key is None
    return Client(
        vertexai=settings.google_vertex,
        api_key=key,
        credentials=credentials,
        project=settings.google_cloud_project if in_project else None,
        location=location(settings) if in_project else None,
        http_options=types.HttpOptions(
            base_url=base_url(settings),
            api_version=api_version(settings),
            timeout=round(seconds * 1000),
            httpx_async_client=http,
            httpx_client=unused,
            # The client would otherwise read certificates anew for a connection that is never made.
            async_client_args={"ssl": _tls()},
        ),
    )


async def _credentials(settings: Settings) -> Any:
    """Credentials with a token that is valid; None where a key is used.

    Raises:
        ProviderFailed: the file, or Google, does not give one.
        NotDeliveredError: Google could not be reached.
    """
    file = settings.google_credentials_file
    if not settings.google_vertex or settings.gemini_api_key is not None or file is None:
        return None
    try:
        return await asyncio.to_thread(_valid_credentials, file)
    except TransportError as error:
        raise NotDeliveredError(f"No token could be fetched: {error}") from error
    except (GoogleAuthError, ValueError, OSError) as error:
        again = getattr(error, "retryable", False)
        raise ProviderFailed(f"Google gives no token for the credentials: {error}", hopeless=not again) from error


def _valid_credentials(file: Path) -> Any:
    from google.auth.transport.requests import Request

    credentials = _loaded(file)
    if not credentials.valid:
        credentials.refresh(Request())
    return credentials


@lru_cache(maxsize=8)
def _loaded(file: Path) -> Any:
    """The credentials of a service account, or of a user who has logged in with gcloud.

    Raises:
        ValueError, OSError: the file holds none of them.
    """
    values = json.loads(file.read_text())
    kind = values.get("type") if isinstance(values, dict) else None
    if kind == "service_account":
        return service_account.Credentials.from_service_account_info(values, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
    if kind == "authorized_user":
        return user_credentials.Credentials.from_authorized_user_info(values, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
    raise ValueError(f"{file.name} is neither a service account's key nor a user's credentials.")


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


@asynccontextmanager
async def _outcomes(line: _Line) -> AsyncIterator[None]:
    try:
        yield
    except (ProviderFailed, NotDeliveredError, OutcomeUnknownError):
        raise
    except errors.APIError as error:
        raise refusal(error.code, error.details, line.request_id, secret=line.secret) from error
    except _NEVER_SENT as error:
        raise NotDeliveredError(f"No connection could be made: {type(error).__name__}.") from error
    except Exception as error:
        # The client fails in its own ways at answers that it does not expect.
        if not line.has_left:
            raise NotDeliveredError(f"It could not be sent: {type(error).__name__}.") from error
        raise OutcomeUnknownError(_what_broke(error)) from error


def _what_broke(error: Exception) -> str:
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        return "There was no answer in time."
    what = "The connection broke" if isinstance(error, httpx2.HTTPError) else "Its answer could not be read"
    return f"{what}: {type(error).__name__}."
