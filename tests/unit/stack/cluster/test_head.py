"""Answers of the REST API of Ray's dashboard, as the head reads them; a stand-in gives them here."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ray.scripts.scripts import start

from compute.stack.cluster.head import RayFailed, RayHead


@dataclass
class Dashboard:
    """Answers every request with `status` and `body`, and keeps what it was sent."""

    port: int = 0
    status: int = 200
    body: Any = field(default_factory=dict)
    sent: list[tuple[str, str, str | None, Any]] = field(default_factory=list)


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    found = Dashboard()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = json.loads(content) if content else None
            found.sent.append((self.command, self.path, self.headers.get("Authorization"), asked))
            self.send_response(found.status)
            self.end_headers()
            self.wfile.write(found.body.encode() if isinstance(found.body, str) else json.dumps(found.body).encode())

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield found
        server.shutdown()
        serving.join()


@pytest.fixture
def head(dashboard: Dashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayHead:
    token = tmp_path / "token"
    token.write_text("the-token\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    return RayHead(tmp_path / "r", dashboard.port)


def application(status: str, message: str = "", **deployments: tuple[str, str]) -> dict[str, Any]:
    parts = {name: {"status": state, "message": said} for name, (state, said) in deployments.items()}
    return {"status": status, "message": message, "deployments": parts}


def test_the_configuration_is_put_with_the_token(head: RayHead, dashboard: Dashboard) -> None:
    head.deploy({"applications": []})
    assert dashboard.sent == [("PUT", "/api/serve/applications/", "Bearer the-token", {"applications": []})]


def test_a_refusal_says_why(head: RayHead, dashboard: Dashboard) -> None:
    dashboard.status, dashboard.body = 400, "ValueError: no such thing"
    with pytest.raises(RayFailed, match="no such thing"):
        head.deploy({"applications": []})


def test_what_is_not_healthy_is_waited_for(head: RayHead, dashboard: Dashboard) -> None:
    deploying = application("DEPLOYING", Ingress=("HEALTHY", ""), Flux=("UPDATING", ""))
    dashboard.body = {"applications": {"compute": deploying}}
    assert (head.deployments().failed, head.deployments().waiting) == (None, "Flux")


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (application("DEPLOY_FAILED", "ValueError: no GPU"), "compute: ValueError: no GPU"),
        (
            application("DEPLOY_FAILED", "see below", Flux=("DEPLOY_FAILED", "OSError: no weights")),
            "compute: OSError: no weights",
        ),
        (application("UNHEALTHY", "RuntimeError: gone"), "compute: RuntimeError: gone"),
    ],
)
def test_a_failed_application_is_named_with_its_cause(
    head: RayHead, dashboard: Dashboard, failed: dict[str, Any], said: str
) -> None:
    dashboard.body = {"applications": {"compute": failed}}
    assert head.deployments().failed == said


def test_a_dashboard_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    # It has its port, so that nobody else gets it, and takes no connections.
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = RayHead(tmp_path / "r", unused.getsockname()[1]).deployments()
    assert (found.failed, found.waiting) == (None, "Ray's dashboard")


def test_no_range_of_ports_is_kept_for_workers(tmp_path: Path) -> None:
    """By default Ray keeps one, and does not start when the dashboard's port is in it."""
    options = start.make_context("start", RayHead(tmp_path / "r", 10_500)._options()[1:]).params
    assert (options["dashboard_port"], options["min_worker_port"], options["max_worker_port"]) == (10_500, 0, 0)
