"""The database of a stack: one that the operator names, or the embedded one."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from compute.settings import Settings
from compute.stack.commands import run_own_command
from compute.stack.errors import StackError
from compute.stack.steps import Steps

if TYPE_CHECKING:
    from compute.db.embedded import EmbeddedPostgres

__all__ = ["migrate", "start_database"]


def start_database(settings: Settings, home: Path, steps: Steps, parts: ExitStack) -> "EmbeddedPostgres | None":
    """Start PostgreSQL unless DATABASE_URL names one, and bring it to the present schema.

    Raises:
        StackError: it did not start, cannot be reached or cannot be brought up to date.
    """
    server = None if settings.database_url else _start_embedded(home, steps, parts)
    with steps.step("Bringing the database up to date"):
        run_own_command("db", "upgrade")
    return server


def migrate(url: str | None) -> None:
    """Apply the migrations that are missing.

    Raises:
        StackError: no database is named, it cannot be reached, or a migration failed.
    """
    if url is None:
        raise StackError("DATABASE_URL is not set; `compute up` takes care of the embedded database")
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    from compute.db.migrate import upgrade

    try:
        upgrade(url)
    except (SQLAlchemyError, CommandError, ValueError) as error:
        raise StackError(f"the database cannot be used: {str(error).splitlines()[0]}") from error


def _start_embedded(home: Path, steps: Steps, parts: ExitStack) -> "EmbeddedPostgres":
    from compute.db.embedded import PostgresFailed, start

    with steps.step("Starting PostgreSQL"):
        try:
            server = start(home)
        except PostgresFailed as error:
            raise StackError(str(error)) from error
    parts.callback(server.stop)
    os.environ["DATABASE_URL"] = server.url
    return server
