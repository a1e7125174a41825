"""Refuses what no route should have to think about: bodies without end, NUL characters in addresses."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestGuard"]


class RequestGuard:
    """ASGI middleware. `max_bytes` bounds a request's body, counted as it arrives; `exceptions` are other bounds
    for single paths, whose routes stream what they read."""

    def __init__(self, app: ASGIApp, max_bytes: int, exceptions: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._exceptions = exceptions or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0
        most = self._exceptions.get(scope["path"], self._max_bytes)

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, f"body: more than {most} bytes")
            return message

        if "\x00" in scope["path"] or b"%00" in scope.get("query_string", b""):
            # Postgres cannot store it, so it can name nothing that exists.
            scope = {**scope, "path": "/bad-request", "raw_path": b"/bad-request"}
        await self._app(scope, counted, send)
