"""HEAD, OPTIONS and 405 on every route, and one spelling of each path (RFC 9110, sections 9 and 15.5.6)."""

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute.api.http.address import raw_path
from compute.api.http.host import public_base
from compute.api.http.problem import problem
from compute.api.http.routes import RouteTable
from compute.settings import Settings

__all__ = ["Methods"]


class Methods:
    """ASGI middleware. HEAD is answered by the route for GET unless a route has it, without the content; OPTIONS and
    methods that a path does not have are answered here, with all that it has; a slash too many or too few at the end
    leads to the path that is meant."""

    def __init__(self, app: ASGIApp, routes: RouteTable, settings: Settings) -> None:
        self._app = app
        self._routes = routes
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, methods = scope["method"], self._routes.methods(scope["path"])
        if (other := self._routes.other_spelling(scope["path"])) is not None:
            await self._moved(scope, other)(scope, receive, send)
        elif methods and method not in methods and not (method == "HEAD" and "GET" in methods):
            await _without_route(method, methods)(scope, receive, send)
        elif method == "HEAD":
            answering = "HEAD" if "HEAD" in methods else "GET"
            await _without_content(self._app, {**scope, "method": answering}, receive, send)
        else:
            await self._app(scope, receive, send)

    def _moved(self, scope: Scope, other: str) -> Response:
        raw = raw_path(scope)
        path = raw + b"/" if other.endswith("/") else raw.removesuffix(b"/")
        query: bytes = scope.get("query_string", b"")
        target = path + b"?" + query if query else path
        return Response(status_code=307, headers={"Location": public_base(scope, self._settings) + target.decode()})


def _without_route(method: str, methods: frozenset[str]) -> Response:
    implied = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
    allow = {"Allow": ", ".join(sorted(methods | implied))}
    if method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    return problem(405, "METHOD_NOT_ALLOWED", f"This path has the methods {allow['Allow']}.", allow)


class _Answered(Exception):
    """The header is sent, and a HEAD needs no more: a stream would go on without end."""


async def _without_content(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def headers_only(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if message.get("more_body"):
            raise _Answered

    try:
        await app(scope, receive, headers_only)
    except _Answered:
        return
