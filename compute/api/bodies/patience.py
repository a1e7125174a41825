"""Clients that send a body drop by drop are cut off; those on a slow line are not."""

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute.api.http.well_formed import has_body

__all__ = ["BodyPatience"]

SECONDS = 30.0
BYTES_PER_SECOND = 2048
DRAINED_BYTES = 64 * 2**20
"""Of a body that nobody wants: more than an honest client still has on its way when it is refused."""


class BodyPatience:
    """ASGI middleware: a client may let us wait `seconds` for its body, and what it has used of them comes back with
    every `bytes_per_second` that come, but no more: who was quick at first must not be slow for hours. The time in
    which nobody asks for the body does not count.

    What an answer has left unread is waited for as well, so that a client that sends it all before it listens hears
    the answer; one that takes too long loses its connection.
    """

    def __init__(self, app: ASGIApp, *, seconds: float = SECONDS, bytes_per_second: float = BYTES_PER_SECOND) -> None:
        self._app = app
        self._seconds = seconds
        self._bytes_per_second = bytes_per_second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._seconds, self._bytes_per_second)

        async def send_behind_body(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False) and not body.complete:
                await send({**message, "more_body": True})
                if not await body.drained():
                    # An answer without an end makes the server close the connection.
                    return
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, body.receive, send_behind_body)


class _Body:
    def __init__(self, receive: Receive, seconds: float, bytes_per_second: float) -> None:
        self._receive = receive
        self._seconds = self._left = seconds
        self._bytes_per_second = bytes_per_second
        self.complete = False

    async def receive(self) -> Message:
        """Raises:
        HTTPException: the client has used up its time.
        """
        if self.complete:
            # From here on what comes is the client's going away.
            return await self._receive()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The body came too slowly. Send the request again.") from None
        came = len(message.get("body", b"")) / self._bytes_per_second
        self._left = min(self._left - (loop.time() - begun) + came, self._seconds)
        self.complete = not message.get("more_body", False)
        return message

    async def drained(self) -> bool:
        """Read the rest; whether it ended in time, and before it was too much."""
        read = 0
        try:
            while not self.complete and read <= DRAINED_BYTES:
                read += len((await self.receive()).get("body", b""))
        except HTTPException:
            return False
        return self.complete
