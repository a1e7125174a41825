"""Servers of the tests' own."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import uvicorn
from starlette.types import ASGIApp

from tests.patience import PATIENCE

__all__ = ["PLAIN_HTTP", "Answer", "Quiet", "answering", "by_path", "config", "listening", "until_started"]

PLAIN_HTTP = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak no TLS: the context that httpx would make of its own reads all authorities, for 20 ms."""

Answer = tuple[int, dict[str, str], bytes]
"""A status, headers and a body."""
_MISSING: Answer = (404, {"Content-Type": "application/json"}, b'{"detail": "There is none.", "code": "NOT_FOUND"}')


def listening() -> socket.socket:
    """A socket on a free port of loopback, for a server of asyncio.

    It names its protocol: otherwise asyncio doesn't know that it is TCP and leaves Nagle's algorithm on, and the body
    of every answer waits 40 ms for the client to acknowledge the headers.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener


def config(app: ASGIApp) -> uvicorn.Config:
    """How to serve an application. Idle connections stay open, so that no client finds one closed as it sends."""
    return uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, timeout_keep_alive=round(PATIENCE))


async def until_started(server: uvicorn.Server, running: "asyncio.Task[None]") -> None:
    """Until a server answers; fails if its `running` ends instead."""
    async with asyncio.timeout(PATIENCE):
        while not server.started:
            assert not running.done(), "the server did not start"
            await asyncio.sleep(0.01)


class Quiet:
    """For handlers of requests: nothing is written about them on the screen."""

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The address of a server of threads, which ends with the block however that ends."""
    with ThreadingHTTPServer((host, port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def by_path(answers: Mapping[str, Answer]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that answers by path, and 404 to any other; its address, and the paths and keys that it was asked with.

    A header of an answer that says another Content-Length than its body has is sent as it is; an empty one is not sent.
    """
    asked: list[tuple[str, str | None]] = []

    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, headers, body = answers.get(self.path, _MISSING)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = True

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815 - names that http.server looks for

    with answering(Handler) as url:
        yield url, asked
