"""A name for each request, by which its answer, the logs and the audit log find each other."""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["REQUEST_ID_HEADER", "RequestIds", "request_id_in"]

REQUEST_ID_HEADER = "X-Request-Id"
_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REQUEST_ID = "request_id"


class RequestIds:
    """ASGI middleware: `X-Request-Id` of every answer is that of its request if it is well formed (letters, digits,
    `.`, `_` and `-`, at most 128), else a random one. It is the outermost, so that no answer goes without.

    Where `app.state.names_requests` is false, a server in front of this application has named the request already, and
    repeats the name itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _WELL_FORMED.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})[_REQUEST_ID] = request_id

        if not getattr(scope["app"].state, "names_requests", True):
            await self._app(scope, receive, send)
            return

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, named)


def request_id_in(scope: Scope) -> str:
    """The id of the request of this scope; empty outside `RequestIds`."""
    request_id: str = scope.get("state", {}).get(_REQUEST_ID, "")
    return request_id
