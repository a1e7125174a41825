"""The database of a stack: the one named by DATABASE_URL, or the embedded one."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compute.settings import Settings
from compute.stack.commands import run_own_command
from compute.stack.errors import StackError
from compute.stack.messages.steps import Steps

if TYPE_CHECKING:
    from compute.db.embedded.server import EmbeddedPostgres

__all__ = ["migrate", "opened_database", "revisions", "start_database"]


def start_database(settings: Settings, home: Path, steps: Steps, parts: ExitStack) -> "EmbeddedPostgres | None":
    """Start PostgreSQL unless DATABASE_URL names a server, and migrate the database to the present schema.

    Raises:
        StackError: it did not start, cannot be reached or cannot be migrated.
    """
    server = None if settings.database_url else _start_embedded(home, steps, parts)
    with steps.step("Migrating the database"):
        run_own_command("db", "migrate")
    return server


@contextmanager
def opened_database(settings: Settings, *, direct: bool = False) -> Iterator[str]:
    """Yield the URL of the database: DATABASE_URL, or else that of the home's own server.

    The home's own server is started for the duration of the block if it is not running. With `direct` the URL bypasses
    the pooler.

    Raises:
        StackError: there is no database, or its server did not start.
    """
    if settings.database_url is not None:
        if direct and settings.database_pooled and not settings.database_direct_url:
            raise StackError(
                "DATABASE_URL leads to a PgBouncer: set COMPUTE_DATABASE_DIRECT_URL to the server behind it"
            )
        yield (settings.database_direct_url if direct else None) or settings.database_url
        return
    if not (settings.home / "postgres" / "PG_VERSION").is_file():
        raise StackError(f"DATABASE_URL is not set, and there is no database in {settings.home}")
    from compute.db.embedded.server import PostgresFailed, PostgresInUse, running_address, start

    with ExitStack() as parts:
        try:
            server = start(settings.home)
        except PostgresInUse:
            yield running_address(settings.home)
            return
        except PostgresFailed as error:
            raise StackError(str(error)) from error
        parts.callback(server.stop)
        yield server.url


def revisions(url: str) -> tuple[str | None, str]:
    """Return the schema of a database, None if it has none yet, and the schema that this version needs.

    Raises:
        StackError: it cannot be reached.
    """
    import psycopg

    from compute.db.migrations.revision import current_revision, wanted_revision

    try:
        return current_revision(url), wanted_revision()
    except (psycopg.Error, ValueError) as error:
        raise StackError(f"the database cannot be used: {_first_line(error)}") from error


def schema_fault(url: str) -> str | None:
    """Return why this version cannot work with the schema of a database; None if it can.

    Raises:
        StackError: it cannot be reached.
    """
    import psycopg

    from compute.db.migrations.revision import SchemaMismatch, require_schema

    try:
        require_schema(url)
    except SchemaMismatch as error:
        return str(error)
    except (psycopg.Error, ValueError) as error:
        raise StackError(f"the database cannot be used: {_first_line(error)}") from error
    return None


def migrate(url: str) -> None:
    """Apply the missing migrations. A newer schema stays as it is, if it declares itself compatible with this version.

    Raises:
        StackError: the database cannot be reached, it is too new, or a migration failed.
    """
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    from compute.db.migrations.locks import LocksUnavailable
    from compute.db.migrations.upgrade import upgrade

    try:
        current, wanted = revisions(url)
        if current is not None and current > wanted:
            if (fault := schema_fault(url)) is not None:
                raise StackError(fault)
        else:
            upgrade(url)
    except (SQLAlchemyError, CommandError, LocksUnavailable, ValueError) as error:
        raise StackError(f"the database cannot be used: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _start_embedded(home: Path, steps: Steps, parts: ExitStack) -> "EmbeddedPostgres":
    from compute.db.embedded.server import PostgresFailed, start

    with steps.step("Starting PostgreSQL"):
        try:
            server = start(home)
        except PostgresFailed as error:
            raise StackError(str(error)) from error
    parts.callback(server.stop)
    os.environ["DATABASE_URL"] = server.url
    return server
