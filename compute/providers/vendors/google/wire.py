"""Google's client, google-genai, as paid calls need it. Imports the client; import this inside the call.

Left to itself the client would send a paid request twice: over aiohttp it repeats one whose connection broke, and it
asks on when an answer says CONTINUATION. It also reads keys, addresses and projects from the environment. Here it gets
an httpx2 client that keeps no connection and follows no redirect, credentials and an address of the settings, and no
retries.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx2
from google.auth.exceptions import GoogleAuthError, TransportError
from google.genai import Client, errors, types
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from compute.errors import ProviderFailed
from compute.providers.calls.answers import json_of
from compute.providers.calls.http import HttpResponse
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.sdk import http_tls, one_request
from compute.providers.vendors.google.account import (
    account,
    api_version,
    base_url,
    endpoint,
    location,
    refusal,
)
from compute.settings import Settings

__all__ = ["generate", "open_client", "sent_once"]

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


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
    raw = sent_once(config).model_copy(update={"should_return_http_response": True})
    address = endpoint(settings, model)
    async with open_client(settings, seconds=seconds, log=log, address=address, user=user) as client:
        response = await client.aio.models.generate_content(model=model, contents=contents, config=raw)
        said = response.sdk_http_response
        answer = await asyncio.to_thread(json_of, said.body if said else None)
    if not isinstance(answer, dict):
        raise OutcomeUnknownError("Its answer is not the JSON that the service promises.")
    return answer


def sent_once(config: types.GenerateContentConfig) -> types.GenerateContentConfig:
    """The same, with which the client asks nothing on by itself."""
    return config.model_copy(
        update={
            "automatic_continuation": False,
            "automatic_function_calling": types.AutomaticFunctionCallingConfig(disable=True),
        }
    )


@asynccontextmanager
async def open_client(
    settings: Settings, *, seconds: float, log: list[ServiceRequest], address: str, user: str
) -> AsyncIterator[Client]:
    """A client for one paid request, to `address`, that is made within. What goes wrong within is raised as
    `compute.providers.calls.outcomes` says, and the request is noted in `log`."""
    key = settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else None

    def refused(response: HttpResponse) -> ProviderFailed | OutcomeUnknownError:
        return refusal(response.status, json_of(response.body), response.request_id, secret=key)

    credentials = await _credentials(settings)
    account(settings, user=user)
    async with (
        one_request(httpx2, address, seconds=seconds, log=log, refused=refused, headers={}) as wire,
        httpx2.AsyncClient(**wire.options) as http,
    ):
        with httpx2.Client(verify=wire.options["verify"], trust_env=False) as unused:
            try:
                yield _client(settings, credentials, seconds, http, unused)
            except errors.APIError as error:
                # Also in the middle of a stream, which has begun with a 200.
                raise refusal(error.code, error.details, wire.request_id, secret=key) from error


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
            async_client_args={"ssl": http_tls(httpx2)},
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
