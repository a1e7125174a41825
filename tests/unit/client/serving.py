"""Servers on loopback that answer by path, and note what they were asked."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Answer", "answering"]

Answer = tuple[int, dict[str, str], bytes]
_MISSING: Answer = (404, {"Content-Type": "application/json"}, b'{"detail": "There is none.", "code": "NOT_FOUND"}')


@contextmanager
def answering(answers: Mapping[str, Answer]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that answers by path, and 404 to any other; its address, and the paths and keys that it was asked with.

    A header of an answer that says another Content-Length than its body has is sent as it is.
    """
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, headers, body = answers.get(self.path, _MISSING)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815 - names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", asked
        finally:
            listening.shutdown()
            thread.join()
