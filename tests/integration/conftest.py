"""Real services. PostgreSQL: one server a session, one migrated template, one database a test. S3: moto over HTTP."""

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from psycopg import sql
from sqlalchemy.engine import URL

from compute.db.migrate import upgrade
from compute.db.session import Database, normal_url


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """The server's address: COMPUTE_TEST_DATABASE_URL, or an embedded server of our own."""
    if given := os.environ.get("COMPUTE_TEST_DATABASE_URL"):
        yield normal_url(given)
        return
    from compute.db.embedded import start

    server = start(tmp_path_factory.mktemp("postgres"))
    yield normal_url(server.url)
    server.stop()


def _libpq(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template(postgres: URL) -> Iterator[str]:
    """A migrated database that each test's own is copied from, in milliseconds."""
    name = f"template_{uuid4().hex}"
    with psycopg.connect(_libpq(postgres), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        upgrade(postgres.set(database=name).render_as_string(hide_password=False))
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(postgres: URL, template: str) -> Iterator[str]:
    """The address of an empty, migrated database that is dropped afterwards."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(_libpq(postgres), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield postgres.set(database=name).render_as_string(hide_password=False)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server, empty at first."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    assert server._server is not None
    # moto leaves its listening socket open.
    server._server.server_close()


@pytest.fixture
def s3_environment(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials where boto3 looks for them; the server's address."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-value")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return s3_server


@pytest.fixture
def bucket(s3_environment: str) -> str:
    """A bucket of the test's own."""
    name = f"bucket-{uuid4().hex}"
    client = boto3.client("s3", endpoint_url=s3_environment, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    client.close()
    return name
