"""The key of a COMPUTE_HOME stays on this machine, whatever address a command is given."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from compute.cli import app
from compute.client import is_loopback
from compute.stack.lock import HomeLock
from tests.servers import Quiet, answering
from tests.unit.cli.every_command import asking

KEPT = "the-key-that-is-kept-in-the-home"
KEPT_ADMIN = "the-key-of-the-administrator-in-the-home"
FOR_ADMINISTRATORS = {("provider", "calls"), ("provider", "settle"), ("lora", "delete")}
WATCH = ["workflow", "watch", "wf_1"]
FOREIGN = ("API_KEY", "ADMIN_API_KEY", "COMPUTE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


ELSEWHERE = "http://compute.example.invalid"


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that says that it is well and refuses everything else, and the keys that it was shown."""
    shown: list[str] = []

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if key := self.headers["Authorization"]:
                shown.append(key)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            healthy = urlsplit(self.path).path == "/health"
            body = b'{"status": "ready"}' if healthy else b""
            self.send_response(200 if healthy else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815

    with answering(Handler) as url:
        yield url, shown


@pytest.fixture
def elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The keys that are shown to ELSEWHERE, which stands for another machine: it is reached through a proxy on this."""
    with listener() as (url, shown):
        monkeypatch.setenv("HTTP_PROXY", url)
        yield shown


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a key, in an environment that names neither another key nor a server."""
    for name in [name for name in os.environ if name.upper().startswith(FOREIGN)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api_key").write_text(f"{KEPT}\n")
    (tmp_path / "admin_api_key").write_text(f"{KEPT_ADMIN}\n")
    return tmp_path


def compute(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environment)


def test_no_command_shows_another_server_the_key_of_the_home(home: Path, elsewhere: list[str]) -> None:
    lines = list(asking(home))
    assert ["doctor", "--only", "server"] in lines
    for line in lines:
        for refused in (compute(*line, "--url", ELSEWHERE), compute(*line, COMPUTE_URL=ELSEWHERE)):
            assert (refused.exit_code, elsewhere) == (1, []), (line, refused.output)
            assert f"no API key for {ELSEWHERE}: " in refused.output, line
            assert "API_KEY" in refused.output, line
            assert KEPT not in refused.output, line
            assert KEPT_ADMIN not in refused.output, line


def test_a_key_that_was_given_goes_to_any_server(home: Path, elsewhere: list[str]) -> None:
    for line in asking(home):
        elsewhere.clear()
        answer = compute(*line, "--url", ELSEWHERE, "--key", "a-key-that-was-given")
        assert answer.exit_code in (1, 6), (line, answer.output)
        assert set(elsewhere) == {"Bearer a-key-that-was-given"}, line
    elsewhere.clear()
    given = {"API_KEY": "a-key-of-the-environment"}
    compute(*WATCH, "--url", ELSEWHERE, **given)
    compute(*WATCH, "--url", ELSEWHERE, **given, COMPUTE_API_KEY="a-key-of-the-client\n")
    compute("keys", "list", "--url", ELSEWHERE, **given, ADMIN_API_KEY="a-key-of-the-administrator-12")
    assert elsewhere == [
        "Bearer a-key-of-the-environment",
        "Bearer a-key-of-the-client",
        "Bearer a-key-of-the-administrator-12",
    ]


def test_a_server_on_loopback_is_shown_the_key_of_the_home(home: Path) -> None:
    administrators = 0
    with listener() as (url, shown):
        for line in asking(home):
            shown.clear()
            compute(*line, "--url", url)
            for_admin = (line[0] == "keys" and line[1] != "current") or tuple(line[:2]) in FOR_ADMINISTRATORS
            administrators += for_admin
            assert set(shown) == {f"Bearer {KEPT_ADMIN if for_admin else KEPT}"}, line
    assert administrators > 3


def test_a_home_without_an_administrator_shows_the_key_that_it_has(home: Path) -> None:
    (home / "admin_api_key").unlink()
    with listener() as (url, shown):
        compute("keys", "list", "--url", url)
    assert shown == [f"Bearer {KEPT}"]


def test_api_key_is_no_administrators_for_the_server_that_runs_in_the_home(home: Path) -> None:
    lock = HomeLock(home)
    lock.acquire()
    with listener() as (url, shown), listener() as (other, shown_there):
        lock.publish({"pid": os.getpid(), "url": url})
        for place in (url, other):
            compute("keys", "list", "--url", place, API_KEY="a-key-of-the-environment")
    lock.release()
    assert (shown, shown_there) == ([f"Bearer {KEPT_ADMIN}"], ["Bearer a-key-of-the-environment"])


@pytest.mark.parametrize(
    ("url", "stays"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://LOCALHOST:1/", True),
        ("http://[::1]:8000", True),
        ("http://127.0.0.2", True),
        ("http://127.1:8000", True),
        ("http://2130706433", True),
        ("http://0.0.0.0:8000", True),
        ("http://localhost.:8000", True),
        ("http://[0:0:0:0:0:0:0:1]", True),
        ("http://[::ffff:127.0.0.1]", True),
        ("http://127.0.0.1.1", False),
        ("http://128.1", False),
        ("http://[::ffff:10.0.0.1]", False),
        ("http://api.localhost", False),
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
