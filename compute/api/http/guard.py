"""Refuses bodies that are too large, or too many at once, before anything of them is read."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute.api.errors import answer_to
from compute.api.http.well_formed import announced
from compute.capacity import Capacity
from compute.errors import ComputeError, Overloaded, TooLarge

__all__ = ["RequestGuard"]


class RequestGuard:
    """ASGI middleware. `max_bytes` bounds a request's body: by what it announces before it is read, and by what
    arrives. `exceptions` are other bounds for single paths, whose routes stream to disk what they read; the bodies of
    all others together take at most `memory`, because they are read into it.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, memory: Capacity, exceptions: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._memory = memory
        self._exceptions = exceptions or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        streamed = scope["path"] in self._exceptions
        body = _Body(receive, self._exceptions.get(scope["path"], self._max_bytes), None if streamed else self._memory)
        try:
            body.check(announced(Headers(scope=scope)) or 0)
        except ComputeError as error:
            await answer_to(error)(scope, receive, send)
            return
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()


class _Body:
    """Counts a body as it arrives, and holds the memory that it takes."""

    def __init__(self, receive: Receive, most: int, memory: Capacity | None) -> None:
        self._receive = receive
        self._most = most
        self._memory = memory
        self._seen = 0
        self._held = 0

    def check(self, size: int) -> None:
        """Raises:
        TooLarge, Overloaded: a body of that size would be refused while it is read.
        """
        if size > self._most:
            raise TooLarge(self._too_large())
        if self._memory is not None:
            self._memory.check(size)

    async def receive(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self._seen += size
        if self._seen > self._most:
            raise HTTPException(413, self._too_large())
        if self._memory is not None and size:
            try:
                self._memory.take_now(size)
            except Overloaded as error:
                # As the framework's own error, for it takes any other one from here for a damaged form.
                raise HTTPException(503, error.detail, {"Retry-After": "5"}) from error
            self._held += size
        return message

    def _too_large(self) -> str:
        return f"The body has more than {self._most} bytes."

    def release(self) -> None:
        if self._memory is not None and self._held:
            self._memory.give_back(self._held)
