"""A set-up that is in order, which each test breaks in one place."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from compute.cli import app
from compute.stack.preflight import free_port
from tests import servers

CONFIG = Path(__file__).parents[4] / "serve_config.yaml"
SOUND_KEY = "sound-key-of-the-tests-0123"
FOREIGN = (
    "COMPUTE_",
    "RAY_",
    "S3_",
    "DATABASE_URL",
    "API_KEY",
    "ADMIN_API_KEY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


@dataclass
class Examined:
    """What the command answered."""

    exit_code: int
    checks: dict[str, dict[str, Any]]

    @property
    def findings(self) -> dict[str, dict[str, str]]:
        """By code."""
        return {one["code"]: one for check in self.checks.values() for one in check["findings"]}


@dataclass
class SetUp:
    """A set-up, as environment variables and files."""

    home: Path
    config: Path
    monkeypatch: pytest.MonkeyPatch

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def doctor(self, *only: str) -> Examined:
        """Run `compute doctor --json` with these checks; with all if none is named."""
        chosen = [word for name in only for word in ("--only", name)]
        answer = CliRunner().invoke(app, ["doctor", "--json", "--config", str(self.config), *chosen])
        assert answer.exit_code in (0, 1), answer.output
        found = json.loads(answer.stdout)
        assert found["healthy"] == (answer.exit_code == 0)
        return Examined(answer.exit_code, {one["check"]: one for one in found["checks"]})


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetUp:
    """A fresh home, the project's own configuration, free ports, and nothing else in the environment."""
    import os

    for name in [
        name for name in os.environ if name.upper().startswith(FOREIGN) and name != "COMPUTE_TEST_DATABASE_URL"
    ]:
        monkeypatch.delenv(name)
    home, config = tmp_path / "home", tmp_path / "serve_config.yaml"
    home.mkdir(mode=0o700)
    config.write_text(CONFIG.read_text())
    made = SetUp(home, config, monkeypatch)
    made.set(
        COMPUTE_HOME=str(home),
        COMPUTE_HTTP_PORT=str(free_port()),
        COMPUTE_DASHBOARD_PORT=str(free_port()),
        API_KEY=SOUND_KEY,
    )
    return made


Routes = dict[str, Callable[[dict[str, str]], tuple[int, Any]]]


@contextmanager
def answering(routes: Routes) -> Iterator[str]:
    """A server with an answer for each path, made from a request's headers; 404 for others. Yields its address."""

    class Answering(servers.Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = routes.get(self.path.partition("?")[0], lambda _: (404, "not here"))
            status, body = answer({name.lower(): value for name, value in self.headers.items()})
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with servers.answering(Answering) as url:
        yield url


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]
