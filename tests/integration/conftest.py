"""Real PostgreSQL (one server a session, one migrated template, one database a test), both object stores, the second
against a real S3 server on loopback, and servers to fetch from."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web
from psycopg import sql
from sqlalchemy.engine import URL

from compute.db.migrations.upgrade import upgrade
from compute.db.session import Database, normal_url
from compute.storage.base import ObjectStore
from compute.storage.local import LocalStore
from compute.storage.s3 import S3Store

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """The server's address: COMPUTE_TEST_DATABASE_URL, or an embedded server of our own.

    Its data do not lie in pytest's own folder: whenever another run starts, pytest shuts that to all but its owner, and
    under root the server is another user.
    """
    if given := os.environ.get("COMPUTE_TEST_DATABASE_URL"):
        yield normal_url(given)
        return
    from compute.db.embedded.server import start

    with tempfile.TemporaryDirectory(prefix="compute-test-") as home:
        server = start(Path(home))
        _spare_the_disk(server.url)
        yield normal_url(server.url)
        server.stop()


def _spare_the_disk(url: str) -> None:
    """Leave writing to the kernel: what a killed process has committed stays, and only a power cut could lose it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        # What is vacuumed meanwhile would be counted among what a test has read.
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")


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


@pytest.fixture(params=["local", "s3", "s3-prefix"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """Each kind of store, empty."""
    opened: ObjectStore
    if request.param == "local":
        opened = LocalStore(tmp_path / "store")
    else:
        server = request.getfixturevalue("s3_environment")
        prefix = "tenants/one" if request.param == "s3-prefix" else ""
        opened = S3Store(request.getfixturevalue("bucket"), endpoint_url=server, prefix=prefix)
    yield opened
    await opened.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; skipped where we may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(  # noqa: S603
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start an HTTP server on loopback with one handler for everything; answers `host:port`."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return f"{host}:{port}"

    yield start
    await asyncio.gather(*(runner.cleanup() for runner in runners))
