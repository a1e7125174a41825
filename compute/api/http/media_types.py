"""Bodies of another type than a route reads: 415 (RFC 9110, section 15.5.16)."""

from collections.abc import Sequence

from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from compute.api.http.problem import problem
from compute.api.http.routes import RouteTable
from compute.api.http.well_formed import has_body

__all__ = ["MediaTypes"]

_JSON = "application/json"
_FORM, _FORM_WITHOUT_FILES = "multipart/form-data", "application/x-www-form-urlencoded"


class MediaTypes:
    """ASGI middleware: what a route reads is what it documents. A body without a type is left to
    the route. So is a form without files where one with files is read: the route says what is missing."""

    def __init__(self, app: ASGIApp, table: RouteTable, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._table = table
        self._read: dict[tuple[str, str], tuple[str, ...]] = {}
        for context in iter_route_contexts(routes):
            extra = getattr(context.original_route, "openapi_extra", None) or {}
            if (content := extra.get("requestBody", {}).get("content")) is not None:
                self._read |= {(context.path or "", method): tuple(content) for method in context.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        given = headers.get("content-type")
        if given is None or not has_body(headers):
            return None
        template = self._table.template(scope["path"], scope["method"])
        read = self._read.get((template or "", scope["method"]))
        if read is None or _is_read(given.partition(";")[0].strip().lower(), read):
            return None
        return problem(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            f"Content-Type: this route reads {' or '.join(read)}.",
            {"Accept": ", ".join(read)},
        )


def _is_read(kind: str, read: tuple[str, ...]) -> bool:
    if kind == _FORM_WITHOUT_FILES:
        return _FORM in read
    return kind in read or (_JSON in read and kind.startswith("application/") and kind.endswith("+json"))
