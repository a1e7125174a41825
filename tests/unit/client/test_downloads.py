"""Downloads: whole or not at all, on after a lost connection, and without the key elsewhere."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from httpx import URL

from benchmarks.client.cutting import Cut, CuttingProxy, Plan
from compute.client import (
    APIError,
    AsyncCompute,
    ClientError,
    Compute,
    ConfigurationError,
    IntegrityError,
    NotFoundError,
    RetryPolicy,
    UnexpectedAnswer,
)
from compute.testing import ComputeServer

DATA = bytes(range(256)) * 4000
QUICK = RetryPolicy(tries=5, first_pause=0.001)


@contextmanager
def answering(
    answers: dict[str, tuple[int, dict[str, str], bytes]],
) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that answers by path; its address, and the paths and keys that it was asked with."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            status, headers, body = answers[self.path]
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

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


async def test_a_download_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    with ComputeServer() as server:
        server.store("refs/large.png", DATA)
        address = URL(server.url)
        plans = [Plan(Cut.MID_ANSWER, 0, passed) for passed in (100, 200_000, 300_000)]
        async with (
            CuttingProxy((address.host, address.port or 0), iter(plans)).listening() as proxy,
            AsyncCompute(proxy.url, server.key, retry=QUICK) as client,
        ):
            digest = hashlib.sha256(DATA).hexdigest()
            file = await client.files.download("refs/large.png", tmp_path / "large.png", sha256=digest)
            assert file.read_bytes() == DATA
            assert proxy.cuts[Cut.MID_ANSWER] == len(plans)
    assert os.listdir(tmp_path) == ["large.png"]  # noqa: PTH208 - of an asynchronous test


def test_a_file_that_is_not_what_it_should_be_leaves_nothing(tmp_path: Path) -> None:
    with ComputeServer() as server, Compute(server.url, server.key, retry=QUICK) as client:
        server.store("refs/dress.png", DATA)
        kept = tmp_path / "dress.png"
        kept.write_bytes(b"from before")
        with pytest.raises(IntegrityError):
            client.files.download("refs/dress.png", kept, sha256="0" * 64)
        with pytest.raises(NotFoundError):
            client.files.download("refs/missing.png", kept)
        assert kept.read_bytes() == b"from before"
    assert list(tmp_path.iterdir()) == [kept]


def test_the_key_stays_with_the_server(tmp_path: Path) -> None:
    with answering({"/bucket/dress.png": (200, {}, DATA)}) as (bucket, asked_there):
        moved = {"Location": f"{bucket}/bucket/dress.png"}
        place = "/api/v1/storage/images/refs/dress.png"
        with answering({place: (307, moved, b"")}) as (url, asked), Compute(url, "secret") as client:
            for source in ("refs/dress.png", f"{bucket}/bucket/dress.png"):
                assert client.files.download(source, tmp_path / "dress.png").read_bytes() == DATA
    assert asked == [(place, "Bearer secret")]
    assert asked_there == [("/bucket/dress.png", None)] * 2


def test_redirects_of_the_api_are_not_followed() -> None:
    moved = {"/api/v1/tasks/": (308, {"Location": "http://127.0.0.1:9/"}, b"")}
    with (
        answering(moved) as (url, asked),
        Compute(url, "secret") as client,
        pytest.raises(APIError, match="is the address right"),
    ):
        client.tasks.list().first()
    assert len(asked) == 1


def test_a_loop_of_redirects_ends(tmp_path: Path) -> None:
    place = "/api/v1/storage/images/a.png"
    with (
        answering({place: (307, {"Location": place}, b"")}) as (url, asked),
        Compute(url, "secret") as client,
        pytest.raises(ClientError, match="redirects"),
    ):
        client.files.download("a.png", tmp_path / "a.png")
    assert len(asked) == 5


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b'"text"', b"7"])
def test_another_kind_of_server_is_recognised(body: bytes) -> None:
    with (
        answering({"/api/v1/tasks/17": (200, {}, body)}) as (url, _),
        Compute(url, "secret") as client,
        pytest.raises(UnexpectedAnswer),
    ):
        client.tasks.get("17")


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMPUTE_URL", "COMPUTE_API_KEY", "API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="COMPUTE_API_KEY"):
        Compute()
    monkeypatch.setenv("API_KEY", "one")
    with Compute() as client:
        assert client.url == "http://127.0.0.1:8000"
    monkeypatch.setenv("COMPUTE_URL", "http://127.0.0.1:9/")
    with Compute() as client:
        assert client.url == "http://127.0.0.1:9"
    for odd in ("ftp://127.0.0.1", "no address", "http://"):
        with pytest.raises(ConfigurationError):
            Compute(odd)
