"""An HTTP/1.1 connection for successive POSTs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import h11

__all__ = ["PostConnection", "PostFailed", "PostResponse"]

BODY_BYTES = 1024
"""Bytes of a response's body that are kept."""
_HEAD_BYTES = 100 * 1024


class PostFailed(Exception):
    """There was no response: no connection, or it broke before a complete header."""


@dataclass(frozen=True, slots=True)
class PostResponse:
    """The head of a response; `retry_after` is that header unparsed, or None."""

    status: int
    retry_after: str | None


class PostConnection(asyncio.Protocol):
    """A connection. Its user calls `send`, `body_ended` and `rest`, in this order, and `close` at the end."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.Future[PostResponse] | None = None
        self._body: asyncio.Future[None] | None = None
        self._start = bytearray()
        self.used = 0
        """The number of requests sent over it."""
        self.has_received = False
        """Whether any byte was received since the last request was sent."""

    @property
    def is_open(self) -> bool:
        """Whether the connection is open as far as this side knows."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def body_start(self) -> bytes:
        """The first bytes of the body, as far as they have been received."""
        return bytes(self._start)

    async def send(self, target: str, headers: Mapping[str, str], body: bytes) -> PostResponse:
        """POST `body`, and wait for the head of the response.

        Raises:
            PostFailed: there was none, or it is not HTTP.
        """
        loop = asyncio.get_running_loop()
        self._head, self._body = loop.create_future(), loop.create_future()
        self._start.clear()
        self.used += 1
        self.has_received = False
        try:
            request = h11.Request(method="POST", target=target, headers=list(headers.items()))
            parts = [self._http.send(one) for one in (request, h11.Data(data=body), h11.EndOfMessage())]
        except (h11.ProtocolError, UnicodeError) as error:
            raise PostFailed(type(error).__name__) from error
        if self._transport is None:
            raise PostFailed("the connection is closed")
        self._transport.write(b"".join(part for part in parts if part))
        return await self._head

    async def body_ended(self) -> None:
        """Wait until the body has ended or broken off, or as much of it as is kept has been received."""
        if self._body is not None and not self._body.done():
            await self._body

    def rest(self) -> bool:
        """Prepare for the next request; returns whether the connection can be used for one."""
        self._head = self._body = None
        if not self.is_open or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._head is None or self._body is None:
            # Unsolicited data: no request is pending.
            self.close()
            return
        self.has_received = True
        self._receive(data, self._head, self._body)

    def eof_received(self) -> None:
        """Called by the event loop, which closes the connection then."""
        if self._head is not None and self._body is not None:
            self._receive(b"", self._head, self._body)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None
        self._break_off("the connection broke")

    def _receive(self, data: bytes, head: asyncio.Future[PostResponse], body: asyncio.Future[None]) -> None:
        if body.done():
            # Its end is not waited for.
            self.close()
            return
        try:
            self._http.receive_data(data)
            while not body.done():
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._take(event, head, body)
        except h11.RemoteProtocolError as error:
            self._break_off(type(error).__name__)

    def _take(self, event: object, head: asyncio.Future[PostResponse], body: asyncio.Future[None]) -> None:
        if isinstance(event, h11.Response):
            if not head.done():
                head.set_result(PostResponse(event.status_code, _retry_after(event)))
        elif isinstance(event, h11.Data):
            self._start += event.data[: BODY_BYTES - len(self._start)]
            if len(self._start) == BODY_BYTES:
                body.set_result(None)
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            body.set_result(None)

    def _break_off(self, reason: str) -> None:
        if self._head is not None and not self._head.done():
            self._head.set_exception(PostFailed(reason))
        if self._body is not None and not self._body.done():
            self._body.set_result(None)


def _retry_after(response: h11.Response) -> str | None:
    found = next((value for name, value in response.headers if name == b"retry-after"), None)
    return None if found is None else found.decode("latin-1")
