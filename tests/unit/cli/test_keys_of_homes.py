"""The key of a COMPUTE_HOME stays on this machine, whatever address a command is given."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from compute.client import is_loopback

KEPT = "the-key-that-is-kept-in-the-home"
COMMANDS = (("workflow", "watch", "wf_1"), ("workflow", "cancel", "wf_1"), ("generate", "a dress"))


@contextmanager
def listener(host: str) -> Iterator[tuple[str, list[str | None]]]:
    """The address of a server that refuses everything, and the keys that it was shown."""
    shown: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"])
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    serving = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield f"http://{host}:{serving.server_port}", shown
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def compute(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    foreign = ("API_KEY", "COMPUTE_", "http_proxy", "HTTP_PROXY")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "compute.cli", *arguments],
        env=clean | {"COMPUTE_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "api_key").write_text(f"{KEPT}\n")
    return tmp_path


@pytest.mark.parametrize("arguments", COMMANDS)
def test_another_server_is_not_shown_the_key_of_the_home(home: Path, arguments: tuple[str, ...]) -> None:
    # 127.0.0.2 stands for another machine: it is not one of the names that count as this one.
    with listener("127.0.0.2") as (url, shown):
        for how in ({"COMPUTE_URL": url}, {}):
            refused = compute(home, *arguments, *([] if how else ["--url", url]), **how)
            assert (refused.returncode, refused.stderr.count("\n"), shown) == (1, 1, [])
            assert refused.stderr.startswith(f"compute: no API key for {url}: ")
            assert "API_KEY" in refused.stderr
            assert "--key" in refused.stderr
            assert KEPT not in refused.stderr
        compute(home, *arguments, "--url", url, "--key", "a-key-that-was-given")
        compute(home, *arguments, "--url", url, API_KEY="a-key-of-the-environment")
    assert shown == ["Bearer a-key-that-was-given", "Bearer a-key-of-the-environment"]


def test_a_server_on_loopback_is_shown_it(home: Path) -> None:
    with listener("127.0.0.1") as (url, shown):
        compute(home, *COMMANDS[0], "--url", url)
    assert shown == [f"Bearer {KEPT}"]


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
