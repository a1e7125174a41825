"""POSTs to receivers whose status alone counts: a broken or endless response body does not change it."""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import certifi
from yarl import URL

from compute.outbound.connection import PostConnection, PostFailed, PostResponse
from compute.outbound.resolver import GuardedResolver

__all__ = ["PostClient", "PostFailed", "PostResult"]

_BODY_SECONDS = 1.0
"""Seconds that a body may take once the status is known."""
_KEPT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class PostResult:
    """The status of a response and its first 1024 bytes as text, undecodable bytes and NULs replaced.

    `retry_after` is that header unparsed, or None.
    """

    status: int
    body_start: str
    retry_after: str | None = None


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


class PostClient:
    """Keeps connections to receivers, each to an address allowed by the resolver. Use it within one event loop."""

    def __init__(self, resolver: GuardedResolver) -> None:
        """Look names up with `resolver`, which the caller closes."""
        self._resolver = resolver
        self._tls: ssl.SSLContext | None = None
        self._open: set[PostConnection] = set()
        self._idle: dict[_Origin, deque[PostConnection]] = {}

    async def post(self, url: URL, body: bytes, headers: Mapping[str, str], timeout: float) -> PostResult:
        """Send once, without following redirects; `timeout` in seconds covers everything up to the status.

        A receiver may close a kept connection just when it is used again. A request without any response on such a
        connection is sent again over a new one.

        Raises:
            PostFailed: there was no response.
            TimeoutError: there was no response in time.
            OSError: the name did not resolve, or not to a public address.
        """
        origin = _Origin(url.scheme, url.raw_host or "", url.port or 0)
        target = url.raw_path_qs or "/"
        sent = {"Host": url.host_port_subcomponent or "", "Content-Length": str(len(body)), **headers}
        async with asyncio.timeout(timeout):
            connection, answer = await self._answered(origin, target, sent, body)
        return await self._result(origin, connection, answer)

    async def close(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            self._discard(connection)
        self._idle.clear()

    async def _answered(
        self, origin: _Origin, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[PostConnection, PostResponse]:
        """The head of the response, and the connection that delivers its body."""
        kept = self._take(origin)
        if kept is not None:
            with contextlib.suppress(PostFailed):
                return kept, await self._send(kept, target, headers, body)
            if kept.has_received:
                raise PostFailed("the answer broke off")
        new = await self._connect(origin)
        return new, await self._send(new, target, headers, body)

    async def _send(
        self, connection: PostConnection, target: str, headers: Mapping[str, str], body: bytes
    ) -> PostResponse:
        try:
            return await connection.send(target, headers, body)
        except BaseException:
            self._discard(connection)
            raise

    async def _result(self, origin: _Origin, connection: PostConnection, answer: PostResponse) -> PostResult:
        """Read the first bytes of the body, as far as they arrive in time. A connection whose body has not ended by
        then is not used again."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BODY_SECONDS):
                    await connection.body_ended()
        except BaseException:
            self._discard(connection)
            raise
        # Stored in a database, whose text cannot contain a NUL.
        start = connection.body_start.decode("utf-8", "replace").replace("\0", "\ufffd")
        self._keep(origin, connection)
        return PostResult(answer.status, start, answer.retry_after)

    async def _connect(self, origin: _Origin) -> PostConnection:
        """Open a connection to the first address that accepts it."""
        loop = asyncio.get_running_loop()
        tls = self._tls_context() if origin.scheme == "https" else None
        failure: Exception = PostFailed("no address")
        for address in await self._resolver.resolve(origin.host, origin.port):
            try:
                _, connection = await loop.create_connection(
                    PostConnection,
                    address["host"],
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
            except OSError as error:
                failure = PostFailed(type(error).__name__)
                failure.__cause__ = error
            else:
                self._open.add(connection)
                return connection
        raise failure

    def _take(self, origin: _Origin) -> PostConnection | None:
        """A kept connection that is still open; the most recently used one, so that the others may expire."""
        idle = self._idle.get(origin, deque())
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
            self._discard(connection)
        self._idle.pop(origin, None)
        return None

    def _keep(self, origin: _Origin, connection: PostConnection) -> None:
        if not connection.rest():
            self._discard(connection)
            return
        self._idle.setdefault(origin, deque()).append(connection)
        asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._expire, origin, connection, connection.used)

    def _expire(self, origin: _Origin, connection: PostConnection, used: int) -> None:
        """Close the connection, unless it was used since."""
        idle = self._idle.get(origin, deque())
        if connection.used == used and connection in idle:
            idle.remove(connection)
            self._discard(connection)
        if not idle:
            self._idle.pop(origin, None)

    def _discard(self, connection: PostConnection) -> None:
        connection.close()
        self._open.discard(connection)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # The system's authorities and Mozilla's: a slim container has none of its own.
            self._tls = ssl.create_default_context()
            self._tls.load_verify_locations(certifi.where())
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls
