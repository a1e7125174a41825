"""The key of a COMPUTE_HOME stays on this machine, whatever address a command is given."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from compute.cli import app
from compute.client import is_loopback
from tests.unit.cli.every_command import asking

KEPT = "the-key-that-is-kept-in-the-home"
WATCH = ["workflow", "watch", "wf_1"]
FOREIGN = ("API_KEY", "ADMIN_API_KEY", "COMPUTE_", "http_proxy", "HTTP_PROXY")


@contextmanager
def listener(host: str) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that says that it is well and refuses everything else, and the keys that it was shown."""
    shown: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if key := self.headers["Authorization"]:
                shown.append(key)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            healthy = self.path.startswith("/health")
            body = b'{"status": "ready"}' if healthy else b""
            self.send_response(200 if healthy else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    serving = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=serving.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{host}:{serving.server_port}", shown
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a key, in an environment that names neither another key nor a server."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api_key").write_text(f"{KEPT}\n")
    return tmp_path


def compute(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environment)


def test_no_command_shows_another_server_the_key_of_the_home(home: Path) -> None:
    lines = list(asking(home))
    assert ["doctor", "--only", "server"] in lines
    # 127.0.0.2 stands for another machine: it is not one of the names that count as this one.
    with listener("127.0.0.2") as (url, shown):
        for line in lines:
            for refused in (compute(*line, "--url", url), compute(*line, COMPUTE_URL=url)):
                assert (refused.exit_code, shown) == (1, []), (line, refused.output)
                assert f"no API key for {url}: " in refused.output, line
                assert "API_KEY" in refused.output, line
                assert KEPT not in refused.output, line


def test_a_key_that_was_given_goes_to_any_server(home: Path) -> None:
    with listener("127.0.0.2") as (url, shown):
        for line in asking(home):
            shown.clear()
            answer = compute(*line, "--url", url, "--key", "a-key-that-was-given")
            assert answer.exit_code in (1, 6), (line, answer.output)
            assert set(shown) == {"Bearer a-key-that-was-given"}, line
        shown.clear()
        compute(*WATCH, "--url", url, API_KEY="a-key-of-the-environment")
        compute(*WATCH, "--url", url, API_KEY="a-key-of-the-environment", COMPUTE_API_KEY="a-key-of-the-client\n")
        compute(
            "keys",
            "list",
            "--url",
            url,
            API_KEY="a-key-of-the-environment",
            ADMIN_API_KEY="a-key-of-the-administrator-12",
        )
    assert shown == [
        "Bearer a-key-of-the-environment",
        "Bearer a-key-of-the-client",
        "Bearer a-key-of-the-administrator-12",
    ]


def test_a_server_on_loopback_is_shown_the_key_of_the_home(home: Path) -> None:
    with listener("127.0.0.1") as (url, shown):
        compute(*WATCH, "--url", url)
        compute("doctor", "--only", "server", "--url", url)
    assert shown == [f"Bearer {KEPT}"] * 2


@pytest.mark.parametrize(
    ("url", "stays"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://LOCALHOST:1/", True),
        ("http://[::1]:8000", True),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1@example.com", False),
        ("http://localhost:8000@example.com", False),
        ("http://example.com/127.0.0.1", False),
        ("http://example.com#@127.0.0.1", False),
        ("127.0.0.1:8000", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_an_address_is_read_as_the_request_reads_it(url: str, stays: bool) -> None:
    assert is_loopback(url) is stays
