"""Uploads: what is sent is what was looked at, and what a caller says it is."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute.client import ArgumentError, Compute, IntegrityError, RetryPolicy
from compute.client.common.disk import SentFile, content_of
from compute.testing import ComputeServer

DATA = os.urandom(200_000)


@pytest.fixture
def remote() -> Iterator[ComputeServer]:
    with ComputeServer() as server:
        yield server


@pytest.fixture
def client(remote: ComputeServer) -> Iterator[Compute]:
    with Compute(remote.url, remote.key, retry=RetryPolicy(first_pause=0.001)) as made:
        yield made


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, Path])
def test_an_upload_is_what_its_caller_says(
    remote: ComputeServer, client: Compute, tmp_path: Path, kind: type[bytes | Path]
) -> None:
    file = tmp_path / "dress.png"
    file.write_bytes(DATA)
    source = file if kind is Path else kind(DATA)  # type: ignore[arg-type, call-arg]
    with pytest.raises(IntegrityError, match="should be 000"):
        client.files.upload(source, sha256="0" * 64)
    assert remote.life.files == {}
    stored = client.files.upload(source, sha256=hashlib.sha256(DATA).hexdigest().upper())
    assert remote.life.files[stored.path] == DATA


def test_what_the_store_has_already_is_compared_when_it_is_downloaded(
    remote: ComputeServer, client: Compute, tmp_path: Path
) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    remote.store(f"uploads/{digest[:2]}/{digest}.png", DATA)
    file = tmp_path / "dress.png"
    file.write_bytes(DATA)
    stored = client.files.upload(file)
    assert (stored.sha256, remote.answers) == (digest, {}), "nothing was sent"
    remote.store(stored.path, DATA[::-1])
    with pytest.raises(IntegrityError):
        client.files.download(stored, tmp_path / "again.png")


@pytest.mark.parametrize("now", [DATA[::-1], DATA[:1000], DATA + b"more", b""], ids=["other", "cut", "longer", "empty"])
def test_a_file_that_changes_is_not_sent_under_the_hash_that_it_had(tmp_path: Path, now: bytes) -> None:
    file = tmp_path / "dress.png"
    file.write_bytes(DATA)
    content = content_of(file)
    file.write_bytes(now)
    with file.open("rb") as opened:
        sent, got = SentFile(opened, content), b""
        assert (sent.seek(0, os.SEEK_END), sent.seek(0)) == (len(DATA), 0)
        try:
            while chunk := sent.read(65_536):
                got += chunk
        except IntegrityError:
            assert len(got) < len(DATA)
        else:
            # What was added is not sent.
            assert (got, now[: len(DATA)]) == (DATA, DATA)


def test_a_file_that_changes_between_two_uploads_is_uploaded_again(
    remote: ComputeServer, client: Compute, tmp_path: Path
) -> None:
    file = tmp_path / "dress.png"
    for data in (DATA, DATA[::-1], DATA):
        file.write_bytes(data)
        assert remote.life.files[client.files.upload(file).path] == data


def test_what_cannot_be_read_twice_is_refused_at_once(client: Compute, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ArgumentError, match="pass its bytes"):
            client.files.upload(odd)
    with pytest.raises(FileNotFoundError):
        client.files.upload(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError):
        client.files.upload(tmp_path)


@pytest.mark.parametrize("name", [b"\xff.png", b'a"b.png', b"a\r\nX: y.png", "größe 😀.png".encode(), b"-x.png"])
def test_a_file_may_have_any_name(remote: ComputeServer, client: Compute, tmp_path: Path, name: bytes) -> None:
    file = tmp_path / os.fsdecode(name)
    file.write_bytes(DATA)
    assert remote.life.files[client.files.upload(file).path] == DATA
