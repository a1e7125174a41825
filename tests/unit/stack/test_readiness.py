"""Waiting for `/health?ready=1`, against a real server on loopback."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from compute.stack.cluster.head import Deployments
from compute.stack.errors import StackError
from compute.stack.messages.steps import Steps
from compute.stack.readiness import readiness, wait_until_ready
from tests.patience import PATIENCE


class Health(BaseHTTPRequestHandler):
    """Answers with the next of `answers`, and with the last one from then on."""

    answers: list[tuple[int, Any]]

    def do_GET(self) -> None:
        assert self.path == "/health?ready=1"
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        payload = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def health() -> Iterator[tuple[str, type[Health]]]:
    handler = type("Scripted", (Health,), {"answers": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


FINE = Deployments(failed=None, waiting="")
WARMING = {"status": "not ready", "checks": {"database": "ok", "queue inference": "no warm replica yet"}}


def test_what_is_missing(health: tuple[str, type[Health]]) -> None:
    url, handler = health
    handler.answers = [(404, "no such route"), (503, WARMING), (200, {"status": "ready"})]
    # It has its port, so that nobody else gets it, and takes no connections.
    with httpx.Client(timeout=PATIENCE) as client, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert readiness(client, f"http://127.0.0.1:{unused.getsockname()[1]}") == "the HTTP server"
        assert readiness(client, url) == "the application"
        assert readiness(client, url) == "queue inference (no warm replica yet)"
        assert readiness(client, url) is None


def test_waiting_tells_what_for_and_ends_when_ready(
    health: tuple[str, type[Health]], capfd: pytest.CaptureFixture[str]
) -> None:
    url, handler = health
    handler.answers = [(503, WARMING), (200, {"status": "ready"})]
    with Steps().step("Waiting") as step:
        wait_until_ready(url, lambda: FINE, step, PATIENCE)
    assert "waiting for queue inference (no warm replica yet)" in capfd.readouterr().out


def test_a_failed_deployment_ends_the_wait(health: tuple[str, type[Health]]) -> None:
    url, handler = health
    handler.answers = [(503, WARMING)]
    with Steps().step("Waiting") as step, pytest.raises(StackError, match="deployment failed: compute: no such model"):
        wait_until_ready(url, lambda: Deployments("compute: no such model", "Flux"), step, PATIENCE)


def test_patience_has_an_end(health: tuple[str, type[Health]]) -> None:
    url, handler = health
    handler.answers = [(503, WARMING)]
    with Steps().step("Waiting") as step, pytest.raises(StackError, match="not ready after 0 s: queue inference"):
        wait_until_ready(url, lambda: FINE, step, 0.01)
