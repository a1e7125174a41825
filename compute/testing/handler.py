"""The routes of the server, over the HTTP server of Python's own library."""

import json
import re
import socket
import struct
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from compute.testing import routes
from compute.testing.outcomes import Refusal
from compute.testing.problems import Problem, problem

if TYPE_CHECKING:
    from compute.testing.server import ComputeServer

__all__ = ["Handler"]

_API = "/api/v1"
_TASK = r"/tasks/(?P<task>[^/]+)"
_FILE = r"/storage/images/(?P<path>.+)"
Route = Callable[..., tuple[int, Any]]
_ROUTES: list[tuple[str, re.Pattern[str], Route]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("POST", r"/tasks/(generation)?", routes.submit),
        ("POST", r"/tasks/bulk", routes.submit_all),
        ("GET", r"/tasks/", routes.list_tasks),
        ("GET", _TASK, routes.get_task),
        ("POST", rf"{_TASK}/cancel", routes.cancel),
        ("DELETE", _TASK, routes.delete),
        ("POST", r"/storage/images", routes.upload),
        ("POST", _FILE, routes.upload),
        ("GET", r"/storage/images", routes.list_files),
        ("DELETE", _FILE, routes.delete_file),
    )
]
_EVENTS, _CONTENT = re.compile(rf"{_TASK}/events"), re.compile(_FILE)


class Handler(BaseHTTPRequestHandler):
    """One connection. `app` is the server, which a subclass knows."""

    app: "ClassVar[ComputeServer]"
    protocol_version = "HTTP/1.1"
    # Small answers are not held back until the client has acknowledged their headers.
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Handle a request; a client that went away ends the connection."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer a request of any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        refusal = self.app.refusals.popleft() if self.app.refusals else None
        # What only reads is carried out when nothing is done.
        if refusal is not None and (self.command in ("GET", "HEAD") or not refusal.carried_out):
            self._refuse(refusal)
            return
        try:
            self._serve(body, refusal)
        except Problem as found:
            self.answer(found.status, found.body)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as fault:
            # Told by `stop`, and at once to whoever waits for the answer.
            self.app.life.faults.append(fault)
            self.close_connection = True
            self.answer(500, {"detail": f"The testing server is at fault: {fault!r}", "code": "INTERNAL"})

    do_POST = do_DELETE = do_HEAD = do_PUT = do_PATCH = do_GET  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server gives it
        """Tests are quiet."""

    def _serve(self, body: bytes, refusal: Refusal | None) -> None:
        split = urlsplit(self.path)
        path = split.path.removeprefix(_API)
        query = dict(parse_qsl(split.query))
        if path == "/health":
            self.answer(200, {"status": "ok", "ready": True})
            return
        if self.command in ("GET", "HEAD") and (found := _CONTENT.fullmatch(path)):
            self._authorize(query)
            routes.send_file(self, unquote(found["path"]))
            return
        self._authorize({})
        if self.command == "GET" and (found := _EVENTS.fullmatch(path)):
            routes.send_events(self, found["task"])
            return
        status, made = self._once(path, query, body)
        if refusal is not None:
            self._refuse(refusal)
        else:
            self.answer(status, made)

    def _once(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Do what is asked; under a key that was used before, answer as then."""
        key = self.headers.get("Idempotency-Key") if self.command == "POST" else None
        place = (key or "", path, json.dumps(query, sort_keys=True))
        with self.app.life.changed:
            if key and (kept := self.app.answers.get(place)):
                sent, status, answer = kept
                if not _is_same(sent, body):
                    raise problem(422, "INVALID_INPUT", f"The key {key} was used for another request.")
                return status, json.loads(answer)
            status, made = self._route(path, query, body)
            if key:
                self.app.answers[place] = (body, status, json.dumps(made).encode())
            return status, made

    def _route(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        for method, pattern, route in _ROUTES:
            if method == self.command and (found := pattern.fullmatch(path)):
                named = {name: unquote(value) for name, value in found.groupdict().items()}
                return route(self, query, body, **named)
        raise problem(404, "NOT_FOUND", f"The testing server has no {self.command} {path}.")

    def _authorize(self, query: dict[str, str]) -> None:
        if query.get("signature") == self.app.signer:
            return
        if self.headers.get("Authorization") != f"Bearer {self.app.key}":
            raise problem(401, "UNAUTHORIZED", "This needs an API key: Authorization: Bearer <key>.")

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send an answer; a body that is no bytes is JSON."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        kinds = {} if isinstance(body, bytes) else {"Content-Type": "application/json"}
        for name, value in (kinds | {"Content-Length": str(len(content)), **(headers or {})}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.cut:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
        self.answer(refusal.status, {"detail": refusal.detail, "code": refusal.code}, headers)


def _is_same(one: bytes, other: bytes) -> bool:
    """Whether two bodies say the same. Forms have another boundary each time, so only their length is compared."""
    if one.startswith(b"--"):
        return len(one) == len(other)
    return one == other
