"""POST to a receiver of which nothing but its status counts: whatever its body does, the status stands."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
from yarl import URL

from compute.storage.resolver import GuardedResolver

__all__ = ["PostClient", "PostFailed", "PostResult"]

BODY_BYTES = 1024
"""How much of an answer's body is kept."""
_BODY_SECONDS = 1.0
"""How long a body may take once the status is known."""
_KEPT_SECONDS = 15.0


class PostFailed(Exception):
    """There was no answer: no connection, or it broke before a whole header."""


@dataclass(frozen=True, slots=True)
class PostResult:
    """The status of an answer and its first 1024 bytes as text, undecodable bytes and NULs replaced.

    `retry_after` is that header as it came, if it came: a claim, nothing more.
    """

    status: int
    body_start: str
    retry_after: str | None = None


class PostClient:
    """Keeps connections to receivers, each to an address that the resolver let pass. Use it within one event loop."""

    def __init__(self, resolver: GuardedResolver) -> None:
        """Look names up with `resolver`, which stays the caller's to close."""
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=None, keepalive_expiry=_KEPT_SECONDS, network_backend=_GuardedNetwork(resolver)
        )

    async def post(self, url: URL, body: bytes, headers: Mapping[str, str], timeout: float) -> PostResult:
        """Send once, without following redirects; `timeout` in seconds is for everything up to the status.

        Raises:
            PostFailed: there was no answer.
            TimeoutError: there was none in time.
            OSError: the name did not resolve, or to nothing public.
        """
        target = httpcore.URL(
            scheme=url.scheme.encode(),
            host=(url.raw_host or "").encode("ascii"),
            port=url.port,
            target=(url.raw_path_qs or "/").encode("ascii"),
        )
        sent: dict[str, str] = {
            "Host": url.host_port_subcomponent or "",
            "Content-Length": str(len(body)),
            **headers,
        }
        request = httpcore.Request("POST", target, headers=list(sent.items()), content=body)
        try:
            async with asyncio.timeout(timeout):
                response = await self._pool.handle_async_request(request)
        except _FAILURES as error:
            raise PostFailed(type(error).__name__) from error
        try:
            start = await _read_start(response)
        finally:
            await response.aclose()
        retry_after = next((value for name, value in response.headers if name.lower() == b"retry-after"), None)
        return PostResult(response.status, start, None if retry_after is None else retry_after.decode("latin-1"))

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpcore.ProxyError,
)


async def _read_start(response: httpcore.Response) -> str:
    """The body's first bytes, as far as they come. A connection whose body has not ended by then is not used again."""
    start = b""
    with contextlib.suppress(TimeoutError, *_FAILURES):
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in response.aiter_stream():
                start += chunk[: BODY_BYTES - len(start)]
                if len(start) == BODY_BYTES:
                    break
    # Kept in a database, whose text cannot hold a NUL.
    return start.decode("utf-8", "replace").replace("\0", "\ufffd")


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that the resolver lets pass, and to nothing else."""

    def __init__(self, resolver: GuardedResolver) -> None:
        self._resolver = resolver
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for answer in await self._resolver.resolve(host, port):
            try:
                return await self._network.connect_tcp(answer["host"], port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
