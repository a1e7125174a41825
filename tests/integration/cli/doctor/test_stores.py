"""`compute doctor` on databases and object stores that are wrong: real ones."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url

from compute.db.embedded.server import running_address, start
from compute.db.session import libpq_url
from tests.integration.cli.doctor.conftest import SetUp
from tests.integration.pooler import pooler
from tests.patience import PATIENCE


def run(url: str, *statements: str) -> None:
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@contextmanager
def role(url: str) -> Iterator[tuple[str, str]]:
    """A role that may connect and no more: its name, and the address with which it does."""
    name = f"test_{uuid4().hex}"
    run(url, f"CREATE ROLE {name} LOGIN")
    try:
        yield name, make_url(url).set(username=name).render_as_string(hide_password=False)
    finally:
        run(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_sound_database_has_no_findings(sound: SetUp, database_url: str) -> None:
    sound.set(DATABASE_URL=database_url)
    answer = sound.doctor("database", "pooler")
    assert answer.findings == {}
    assert {one["state"] for one in answer.checks.values()} == {"ok"}


def test_a_database_without_tables_and_one_of_the_future_are_found(sound: SetUp, database_url: str) -> None:
    sound.set(DATABASE_URL=database_url)
    run(database_url, "UPDATE alembic_version SET version_num = '9999'")
    run(database_url, "COMMENT ON TABLE alembic_version IS '9999'")
    assert "newer one" in sound.doctor("database").findings["database.too-new"]["advice"]
    run(database_url, "DROP TABLE alembic_version")
    found = sound.doctor("database").findings
    assert "db migrate" in found["database.not-migrated"]["advice"]


def test_a_database_that_takes_no_writes_is_found(sound: SetUp, database_url: str) -> None:
    sound.set(DATABASE_URL=database_url)
    name = make_url(database_url).database
    run(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "default_transaction_read_only" in sound.doctor("database").findings["database.read-only"]["advice"]


def test_a_role_without_rights_is_found(sound: SetUp, database_url: str) -> None:
    with role(database_url) as (name, address):
        run(database_url, f"GRANT SELECT ON alembic_version TO {name}")
        sound.set(DATABASE_URL=address)
        found = sound.doctor("database").findings
        assert "GRANT SELECT, INSERT" in found["database.rights"]["advice"]


def test_a_role_that_has_all_its_connections_is_found(sound: SetUp, database_url: str) -> None:
    with role(database_url) as (name, address):
        run(database_url, f"ALTER ROLE {name} CONNECTION LIMIT 0")
        sound.set(DATABASE_URL=address)
        assert "max_connections" in sound.doctor("database").findings["database.crowded"]["advice"]


def test_a_database_that_does_not_exist_is_found(sound: SetUp, database_url: str) -> None:
    sound.set(DATABASE_URL=make_url(database_url).set(database="nowhere").render_as_string(hide_password=False))
    assert "createdb" in sound.doctor("database").findings["database.missing"]["advice"]


def test_clocks_that_differ_are_found(sound: SetUp, database_url: str) -> None:
    """The server's clock is that of this machine; a function in its place is an hour ahead for this database."""
    name = make_url(database_url).database
    run(
        database_url,
        "CREATE SCHEMA ahead",
        "CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
        "AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$",
        f"ALTER DATABASE {name} SET search_path = ahead, pg_catalog, public",
    )
    sound.set(DATABASE_URL=database_url)
    found = sound.doctor("database").findings["database.clock"]
    assert "3600 s apart" in found["problem"]
    assert "NTP" in found["advice"]


def test_a_wrong_password_is_found_and_not_shown(sound: SetUp, tmp_path: Path) -> None:
    home = tmp_path / "server"
    home.mkdir(mode=0o711)
    server = start(home)
    try:
        run(server.url, "CREATE ROLE guest LOGIN PASSWORD 'right-password'")
        rules = home / "postgres" / "pg_hba.conf"
        rules.write_text(f"local all guest scram-sha-256\n{rules.read_text()}")
        run(server.url, "SELECT pg_reload_conf()")
        guest = make_url(server.url).set(username="guest")
        sound.set(DATABASE_URL=guest.set(password="wrong-password").render_as_string(hide_password=False))
        answer = sound.doctor("database")
    finally:
        server.stop()
    assert "Correct the user and the password" in answer.findings["database.password"]["advice"]
    assert "wrong-password" not in str(answer.checks)


def test_the_database_of_a_home_is_reached_through_a_link_to_it(sound: SetUp, tmp_path: Path) -> None:
    # So long that the sockets lie elsewhere, in a folder that is named after the path of the home.
    home, link = tmp_path / ("h" * 60), tmp_path / ("l" * 60)
    home.mkdir(mode=0o711)
    link.symlink_to(home)
    server = start(home)
    try:
        run(running_address(link), "SELECT 1")
        run(running_address(home), "SELECT 1")
    finally:
        server.stop()


def test_a_pooler_that_nobody_told_of_is_found(sound: SetUp, database_url: str) -> None:
    with pooler(database_url) as pooled:
        address = pooled.render_as_string(hide_password=False)
        sound.set(DATABASE_URL=address)
        assert "COMPUTE_DATABASE_POOLED=1" in sound.doctor("pooler").findings["pooler.unknown"]["advice"]
        sound.set(COMPUTE_DATABASE_POOLED="1")
        assert "COMPUTE_DATABASE_DIRECT_URL" in sound.doctor("pooler").findings["pooler.direct"]["advice"]
        sound.set(COMPUTE_DATABASE_DIRECT_URL=address)
        assert "server itself" in sound.doctor("pooler").findings["pooler.not-direct"]["advice"]
        sound.set(COMPUTE_DATABASE_DIRECT_URL=database_url)
        assert sound.doctor("pooler", "database").findings == {}


def in_bucket(sound: SetUp, server: str, bucket: str) -> None:
    sound.set(COMPUTE_STORAGE="s3", S3_BUCKET=bucket, S3_ENDPOINT_URL=server, AWS_DEFAULT_REGION="us-east-1")


def test_a_bucket_that_is_sound_keeps_nothing_of_the_check(sound: SetUp, s3_server: str, bucket: str) -> None:
    import boto3

    in_bucket(sound, s3_server, bucket)
    assert sound.doctor("objects").findings == {}
    client = boto3.client("s3", endpoint_url=s3_server)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    client.close()


def test_a_bucket_that_does_not_exist_is_found(sound: SetUp, s3_environment: str) -> None:
    in_bucket(sound, s3_environment, "nowhere")
    assert "Make the bucket" in sound.doctor("objects").findings["objects.bucket"]["advice"]


def test_a_store_that_is_away_is_found(sound: SetUp, s3_environment: str) -> None:
    in_bucket(sound, "http://127.0.0.1:1", "any")
    assert "S3_ENDPOINT_URL" in sound.doctor("objects").findings["objects.unreachable"]["advice"]


def test_a_key_that_the_store_refuses_is_found(sound: SetUp, s3_server: str, bucket: str) -> None:
    in_bucket(sound, s3_server, bucket)
    # From here on moto compares keys and signatures.
    httpx.post(f"{s3_server}/moto-api/reset-auth", content=b"0", timeout=PATIENCE).raise_for_status()
    try:
        answer = sound.doctor("objects")
    finally:
        httpx.post(f"{s3_server}/moto-api/reset-auth", content=b"inf", timeout=PATIENCE).raise_for_status()
    assert "AWS_ACCESS_KEY_ID" in answer.findings["objects.refused"]["advice"]
    assert "test-secret-value" not in str(answer.checks)


def test_a_store_without_credentials_is_found(
    sound: SetUp, s3_server: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_bucket(sound, s3_server, bucket)
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_DEFAULT_REGION"]:
        monkeypatch.delenv(name)
    sound.set(AWS_EC2_METADATA_DISABLED="true", HOME=str(tmp_path))
    assert "AWS_ACCESS_KEY_ID" in sound.doctor("objects").findings["objects.credentials"]["advice"]


def test_a_folder_that_is_a_file_is_found(sound: SetUp) -> None:
    (sound.home / "storage").write_text("a file")
    found = sound.doctor("objects").findings
    assert list(found) == ["objects.unreachable"]
    assert "COMPUTE_HOME/storage" in found["objects.unreachable"]["advice"]
