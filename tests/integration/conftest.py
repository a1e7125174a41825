"""Real PostgreSQL: one server a session, one migrated template, one database a test."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import URL

from compute.db.migrations.upgrade import upgrade
from compute.db.session import Database, normal_url


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
