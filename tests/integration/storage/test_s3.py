"""Abilities and faults of a bucket alone."""

import asyncio
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import boto3
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from compute.errors import StorageAway, StorageFailed
from compute.settings import Settings
from compute.storage import open_store
from compute.storage.s3 import S3Store
from tests.integration.conftest import Serve
from tests.patience import PATIENCE


async def test_the_settings_choose_it(s3_environment: str, bucket: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, storage="s3", s3_bucket=bucket, s3_endpoint_url=s3_environment, s3_prefix="/p/")
    store = open_store(settings)
    await store.put("a/b.png", b"x", "image/png")
    client = boto3.client("s3", endpoint_url=s3_environment, region_name="us-east-1")
    stored = client.get_object(Bucket=bucket, Key="p/a/b.png")
    assert (stored["Body"].read(), stored["ContentType"]) == (b"x", "image/png")
    client.close()
    await store.close()


def test_a_bucket_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="S3_BUCKET"):
        open_store(Settings(home=tmp_path, storage="s3"))


async def test_a_presigned_link_opens_without_a_key(s3_environment: str, bucket: str) -> None:
    store = S3Store(bucket, endpoint_url=s3_environment, prefix="p")
    await store.put("a b/ü.png", b"pixels", "image/png")
    link = await store.url("a b/ü.png", 600)
    assert link is not None
    assert "X-Amz-Expires=600" in link
    assert "test-secret-value" not in link
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert (response.status, await response.read()) == (200, b"pixels")
        assert response.content_type == "image/png"
    await store.close()


async def test_a_link_lives_no_longer_than_s3_allows(s3_environment: str, bucket: str) -> None:
    store = S3Store(bucket, endpoint_url=s3_environment)
    link = await store.url("a.png", 30 * 24 * 3600)
    assert link is not None
    assert "X-Amz-Expires=604800" in link
    await store.close()


async def test_a_cdn_is_linked_to_when_there_is_one(s3_environment: str, bucket: str) -> None:
    store = S3Store(bucket, endpoint_url=s3_environment, prefix="p", public_url="https://cdn.example/media/")
    assert await store.url("a b/ü?.png", 600) == "https://cdn.example/media/p/a%20b/%C3%BC%3F.png"
    await store.close()


async def test_two_prefixes_of_one_bucket_do_not_meet(s3_environment: str, bucket: str) -> None:
    one = S3Store(bucket, endpoint_url=s3_environment, prefix="one")
    other = S3Store(bucket, endpoint_url=s3_environment, prefix="one-more")
    await one.put("a", b"1", "text/plain")
    await other.put("a", b"2", "text/plain")
    assert [stored.path for stored in await one.list("", 10)] == ["a"]
    assert await one.delete_prefix("a") == 1
    assert await other.get("a") == b"2"
    await one.close()
    await other.close()


async def test_more_objects_than_a_page(s3_environment: str, bucket: str) -> None:
    store = S3Store(bucket, endpoint_url=s3_environment, page=10)
    paths = [f"many/{number:02}" for number in range(25)]
    await asyncio.gather(*(store.put(path, b"", "text/plain") for path in paths))
    assert [stored.path for stored in await store.list("many/", 21)] == paths[:21]
    assert [stored.path for stored in await store.list("many/", 100)] == paths
    assert await store.delete_prefix("many/") == 25
    assert await store.list("", 10) == []
    await store.close()


async def test_folder_marks_of_consoles_are_no_objects(s3_environment: str, bucket: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_environment, region_name="us-east-1")
    client.put_object(Bucket=bucket, Key="a/", Body=b"")
    client.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    client.close()
    store = S3Store(bucket, endpoint_url=s3_environment)
    assert [stored.path for stored in await store.list("a", 1)] == ["a/b"]
    await store.close()


async def test_a_missing_bucket_is_named(s3_environment: str) -> None:
    store = S3Store("no-such-bucket", endpoint_url=s3_environment)
    for call in (store.check(), store.put("a", b"x", "text/plain"), store.get("a"), store.list("", 5)):
        with pytest.raises(StorageFailed, match="bucket no-such-bucket does not exist") as caught:
            await call
        assert not isinstance(caught.value, StorageAway), "waiting would be no help"
    await store.close()


async def test_a_store_that_is_away_is_a_failure_without_details(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        store = S3Store("bucket", endpoint_url=f"http://127.0.0.1:{port}")
        with pytest.raises(StorageAway, match="could not be reached") as caught:
            await store.get("a")
    assert "test-secret-value" not in caught.value.detail
    assert str(port) not in caught.value.detail
    await store.close()


@pytest.mark.parametrize(
    ("status", "away"), [(503, True), (500, True), (429, True), (403, False), (400, False), (501, False)]
)
async def test_a_store_that_fails_is_away_and_one_that_refuses_is_not(
    s3_environment: str, serve: Serve, status: int, away: bool
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text="<Error><Code>Whatever</Code></Error>", content_type="application/xml")

    store = S3Store("bucket", endpoint_url=f"http://{await serve(answer)}")
    with pytest.raises(StorageFailed) as caught:
        await store.put("a", b"x", "text/plain")
    assert isinstance(caught.value, StorageAway) is away
    await store.close()


def self_signed(folder: Path) -> ssl.SSLContext:
    """For a server on 127.0.0.1 that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    file = folder / "server.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize(("tls", "away"), [("unknown", False), ("broken off", True)])
async def test_a_certificate_that_nobody_trusts_is_not_waited_for(
    s3_environment: str, tmp_path: Path, tls: str, away: bool
) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = self_signed(tmp_path) if tls == "unknown" else None
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context) as server:
        store = S3Store("bucket", endpoint_url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(StorageFailed, match="could not be reached") as caught:
            await store.get("a")
        assert isinstance(caught.value, StorageAway) is away
        await store.close()


@pytest.mark.parametrize(("code", "away"), [("SlowDown", True), ("InternalError", True), ("AccessDenied", False)])
async def test_objects_that_cannot_be_deleted_now_may_be_later(
    s3_environment: str, serve: Serve, code: str, away: bool
) -> None:
    listed = "<ListBucketResult><Contents><Key>a/b</Key><Size>1</Size></Contents></ListBucketResult>"
    refused = f"<DeleteResult><Error><Key>a/b</Key><Code>{code}</Code></Error></DeleteResult>"

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=listed if request.method == "GET" else refused, content_type="application/xml")

    store = S3Store("bucket", endpoint_url=f"http://{await serve(answer)}")
    with pytest.raises(StorageFailed, match=code) as caught:
        await store.delete_prefix("a/")
    assert isinstance(caught.value, StorageAway) is away
    await store.close()


async def test_a_store_that_hangs_holds_up_only_those_who_need_it(s3_environment: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        store = S3Store("bucket", endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        asking = [asyncio.create_task(store.get("a")) for _ in range(100)]
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            # Threads of the loop's own, of which there are few.
            assert await asyncio.gather(*(asyncio.to_thread(int, "7") for _ in range(100))) == [7] * 100
            # Links are signed without asking the store.
            assert await store.url("a", 60) is not None
        assert not any(one.done() for one in asking)
        for one in asking:
            one.cancel()
    await asyncio.wait(asking)


async def test_missing_credentials_are_named(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = S3Store("bucket", endpoint_url=s3_server)
    with pytest.raises(StorageFailed, match="AWS_ACCESS_KEY_ID"):
        await store.check()
    await store.close()


def test_boto3_is_loaded_only_for_s3() -> None:
    code = "import sys, compute.storage; sys.exit('boto3' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
