"""Downloads: whole or not at all, on after a lost connection, and without the key elsewhere."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from httpx import URL

from benchmarks.client.cutting import Cut, CuttingProxy, Plan
from compute.client import (
    APIError,
    ArgumentError,
    AsyncCompute,
    ClientError,
    Compute,
    ConfigurationError,
    IntegrityError,
    NoAnswer,
    NotFoundError,
    RetryPolicy,
    UnexpectedAnswer,
)
from compute.testing import ComputeServer
from tests.servers import by_path

DATA = bytes(range(256)) * 4000
QUICK = RetryPolicy(tries=5, first_pause=0.001)


@pytest.mark.parametrize("kind", [AsyncCompute, Compute])
async def test_a_download_goes_on_where_it_was_cut(kind: type[AsyncCompute | Compute], tmp_path: Path) -> None:
    digest = hashlib.sha256(DATA).hexdigest()

    def fetch(url: str, key: str, to: Path) -> Path:
        with Compute(url, key, retry=QUICK) as client:
            return client.files.download("refs/large.png", to, sha256=digest)

    with ComputeServer() as server:
        server.store("refs/large.png", DATA)
        address = URL(server.url)
        plans = [Plan(Cut.MID_ANSWER, 0, passed) for passed in (100, 200_000, 300_000)]
        async with CuttingProxy((address.host, address.port or 0), iter(plans)).listening() as proxy:
            if kind is Compute:
                file = await asyncio.to_thread(fetch, proxy.url, server.key, tmp_path / "large.png")
            else:
                async with AsyncCompute(proxy.url, server.key, retry=QUICK) as client:
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
    with by_path({"/bucket/dress.png": (200, {}, DATA)}) as (bucket, asked_there):
        moved = {"Location": f"{bucket}/bucket/dress.png"}
        place = "/api/v1/storage/images/refs/dress.png"
        with by_path({place: (307, moved, b"")}) as (url, asked), Compute(url, "secret") as client:
            for source in ("refs/dress.png", f"{bucket}/bucket/dress.png"):
                assert client.files.download(source, tmp_path / "dress.png").read_bytes() == DATA
    assert asked == [(place, "Bearer secret")]
    assert asked_there == [("/bucket/dress.png", None)] * 2


def test_redirects_of_the_api_are_not_followed() -> None:
    moved = {"/api/v1/tasks/": (308, {"Location": "http://127.0.0.1:9/"}, b"")}
    with (
        by_path(moved) as (url, asked),
        Compute(url, "secret") as client,
        pytest.raises(APIError, match="is the address right"),
    ):
        client.tasks.list().first()
    assert len(asked) == 1


def test_a_loop_of_redirects_ends(tmp_path: Path) -> None:
    place = "/api/v1/storage/images/a.png"
    with (
        by_path({place: (307, {"Location": place}, b"")}) as (url, asked),
        Compute(url, "secret") as client,
        pytest.raises(ClientError, match="redirects"),
    ):
        client.files.download("a.png", tmp_path / "a.png")
    assert len(asked) == 5


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b'"text"', b"7"])
def test_another_kind_of_server_is_recognised(body: bytes) -> None:
    with (
        by_path({"/api/v1/tasks/17": (200, {}, body)}) as (url, _),
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


@pytest.mark.parametrize("tag", ['W/"1"', '"1"', 'W/"é"'])
def test_a_file_that_always_breaks_off_is_given_up(tag: str, tmp_path: Path) -> None:
    broken = (200, {"Content-Length": str(len(DATA)), "ETag": tag}, DATA[:100_000])
    with (
        by_path({"/api/v1/storage/images/a.png": broken}) as (url, asked),
        Compute(url, "secret", timeout=0.3, retry=QUICK) as client,
        pytest.raises(NoAnswer),
    ):
        client.files.download("a.png", tmp_path / "a.png")
    assert len(asked) > 1
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_file_is_not_the_whole(tmp_path: Path) -> None:
    part = {"Content-Range": f"bytes 0-999/{len(DATA)}", "ETag": '"1"'}
    with (
        by_path({"/api/v1/storage/images/a.png": (206, part, DATA[:1000])}) as (url, _),
        Compute(url, "secret", timeout=0.3, retry=QUICK) as client,
        pytest.raises(IntegrityError),
    ):
        client.files.download("a.png", tmp_path / "a.png")


@pytest.mark.parametrize(
    "link", ["/api/v1/admin/keys", "/api/v1/storage/images/../../admin/keys", "/api/v1/storage/images/%2e%2e/a.png"]
)
def test_a_link_leads_the_key_to_stored_files_alone(link: str, tmp_path: Path) -> None:
    with by_path({}) as (url, asked), Compute(url, "secret") as client:
        for source in (link, f"{url}{link}"):
            with pytest.raises(NotFoundError):
                client.files.download(source, tmp_path / "a.png")
        with pytest.raises(NotFoundError):
            client.files.download(f"{url}/api/v1/storage/images/a.png", tmp_path / "a.png")
    assert [key for _, key in asked] == [None, None, "Bearer secret"]


def test_a_long_name_is_a_name(tmp_path: Path) -> None:
    with ComputeServer() as server, Compute(server.url, server.key) as client:
        server.store("refs/dress.png", DATA)
        file = client.files.download("refs/dress.png", tmp_path / f"{'long' * 60}.png")
        assert file.read_bytes() == DATA


PLACE = "/api/v1/storage/images/a.png"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-Encoding": "gzip", "Content-Type": "image/png"}, "packed"),
        ({"Content-Type": "text/html; charset=utf-8"}, "web page"),
        ({"Content-Length": ""}, "how long"),
    ],
)
def test_what_is_not_the_file_is_not_stored(tmp_path: Path, headers: dict[str, str], said: str) -> None:
    with by_path({PLACE: (200, headers, DATA)}) as (url, _), Compute(url, "secret", retry=QUICK) as client:
        with pytest.raises((UnexpectedAnswer, IntegrityError), match=said):
            client.files.download("a.png", tmp_path / "a.png")
        if "how" in said:
            whole = client.files.download("a.png", tmp_path / "a.png", sha256=hashlib.sha256(DATA).hexdigest())
            assert whole.read_bytes() == DATA, "who knows its hash knows that it is complete"
            whole.unlink()
    assert list(tmp_path.iterdir()) == []


def test_only_a_file_is_replaced_and_it_keeps_its_mode(tmp_path: Path) -> None:
    with ComputeServer() as server, Compute(server.url, server.key) as client:
        server.store("refs/a.png", DATA)
        os.mkfifo(tmp_path / "pipe")
        for odd in (tmp_path, ".", "/", f"{tmp_path}/new/", tmp_path / "pipe", "/dev/null", "/dev/full"):
            with pytest.raises(ArgumentError, match=r"is a folder|no regular file"):
                client.files.download("refs/a.png", odd)
        assert [one.name for one in tmp_path.iterdir()] == ["pipe"]
        kept, link = tmp_path / "kept.png", tmp_path / "link.png"
        kept.write_bytes(b"from before")
        kept.chmod(0o600)
        link.symlink_to(kept)
        assert client.files.download("refs/a.png", link) == link
        assert (link.is_symlink(), kept.read_bytes(), kept.stat().st_mode & 0o777) == (True, DATA, 0o600)


def test_a_download_that_fails_makes_no_folder(tmp_path: Path) -> None:
    with ComputeServer() as server, Compute(server.url, server.key) as client:
        with pytest.raises(NotFoundError):
            client.files.download("refs/missing.png", tmp_path / "new" / "a.png")
        server.store("refs/empty.png", b"")
        assert client.files.download("refs/empty.png", tmp_path / "empty.png").read_bytes() == b""
    assert [one.name for one in tmp_path.iterdir()] == ["empty.png"]


def test_a_link_that_leads_to_nobody_is_named(tmp_path: Path) -> None:
    nobody = pytest.raises(NoAnswer, match=r"http://127\.0\.0\.1:9 cannot be reached")
    with ComputeServer() as server, Compute(server.url, server.key, timeout=0.05) as client, nobody:
        client.files.download("http://127.0.0.1:9/a.png?signature=secret", tmp_path / "a.png")
