"""Times and traces every request."""

import asyncio
import logging
import time

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute.api.http.request_ids import request_id_in
from compute.api.http.routes import RouteTable
from compute.telemetry import tracing
from compute.telemetry.ids import bound
from compute.telemetry.instruments import REQUESTS
from compute.telemetry.traceparent import Traceparent

__all__ = ["LEFT", "UNMATCHED", "Observed"]

LEFT = 499
"""The status, in metrics and traces, of a request whose client went before it was answered."""

UNMATCHED = "unmatched"
"""The route, in metrics and traces, of a path that no route has, or not with this method."""

_log = logging.getLogger(__name__)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNTRACED = frozenset({"/health", "/metrics"})


class Observed:
    """ASGI middleware inside `RequestIds`: log lines carry the request's id, a `traceparent` is continued, and what the
    request took is counted by route."""

    def __init__(self, app: ASGIApp, routes: RouteTable) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_in(scope)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = self._routes.template(scope["path"], "GET" if method == "HEAD" else method) or UNMATCHED
        answer = _Answer(send)
        try:
            with bound(request_id=request_id), _traced(headers, method, route) as span:
                try:
                    await self._app(scope, receive, answer.send)
                except (asyncio.CancelledError, ClientDisconnect):
                    # Serve cancels what nobody waits for any more.
                    answer.left()
                    raise
                finally:
                    span.set(http__response__status_code=answer.status, compute__request__id=request_id)
                    if answer.status >= 500:
                        span.fail(f"answered {answer.status}")
                    _log.debug("%s %s: %d after %.3f s", method, route, answer.status, answer.seconds)
        finally:
            REQUESTS.observe(answer.seconds, method, route, str(answer.status))


class _Answer:
    """The answer as it passes: its status, 500 until there is one, and the time that it took."""

    def __init__(self, send: Send) -> None:
        self.status = 500
        self._begun = False
        self._send = send
        self._began = time.perf_counter()
        self._streams_after: float | None = None

    @property
    def seconds(self) -> float:
        """Until now, or until a stream began: how long somebody listens says nothing about us."""
        return self._streams_after or time.perf_counter() - self._began

    def left(self) -> None:
        """The client has gone."""
        if not self._begun:
            self.status = LEFT

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._begun = message["status"], True
            headers = Headers(raw=message.get("headers", []))
            if headers.get("content-type", "").startswith("text/event-stream"):
                self._streams_after = time.perf_counter() - self._began
        await self._send(message)


def _traced(headers: Headers, method: str, route: str) -> "tracing.SpanBlock":
    # Without a receiver the caller's trace is passed on to tasks and webhooks all the same.
    caller = Traceparent.parse(headers.get("traceparent"))
    parent = str(caller) if caller else None
    if route in _UNTRACED:
        return tracing.inside(tracing.UNTRACED)
    return tracing.span(
        f"{method} {route}", parent=parent, kind="server", http__request__method=method, http__route=route
    )
