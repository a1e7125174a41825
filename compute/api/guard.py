"""Refuses what no route should have to think about: bodies without end, NUL characters in addresses."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestGuard"]


class RequestGuard:
    """ASGI middleware. `max_bytes` bounds a request's body, counted as it arrives."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise HTTPException(413, f"body: more than {self._max_bytes} bytes")
            return message

        if "\x00" in scope["path"] or b"%00" in scope.get("query_string", b""):
            # Postgres cannot store it, so it can name nothing that exists.
            scope = {**scope, "path": "/bad-request", "raw_path": b"/bad-request"}
        await self._app(scope, counted, send)
