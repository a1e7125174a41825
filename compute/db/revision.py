"""Which schema a database has, and which one this code was written for.

Migrations run in a step of their own, `compute db migrate`, before the code that needs them serves. Whoever serves asks
here first.
"""

from pathlib import Path

import psycopg

from compute.db.session import libpq_url

__all__ = ["SchemaMismatch", "current_revision", "require_schema", "wanted_revision"]

_CONNECT_SECONDS = 10
_MOST_AHEAD = 1
"""Each migration leaves the code before it working, for as long as an upgrade takes."""


class SchemaMismatch(Exception):
    """The database has another schema than this code can work with. The message says what to do."""


def wanted_revision() -> str:
    """The schema of this code: the number of its last migration."""
    # By the names of the files: Alembic takes a while to import.
    versions = Path(__file__).parent / "migrations" / "versions"
    return max(file.name.partition("_")[0] for file in versions.glob("[0-9]*_*.py"))


def current_revision(database_url: str) -> str | None:
    """The schema of the database; None if it has never been migrated.

    Raises:
        ValueError: not a Postgres address.
        psycopg.Error: it cannot be reached, or refuses us.
    """
    with psycopg.connect(libpq_url(database_url), autocommit=True, connect_timeout=_CONNECT_SECONDS) as connection:
        there = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if there and there[0] else None
    return None if found is None else str(found[0])


def require_schema(database_url: str) -> None:
    """Make sure that this code can work with the database: its schema is the code's, or one migration newer.

    Raises:
        SchemaMismatch: it is older, or much newer.
        ValueError, psycopg.Error: as `current_revision`.
    """
    current, wanted = current_revision(database_url), wanted_revision()
    if current == wanted:
        return
    if current is None or not current.isdecimal() or int(current) < int(wanted):
        raise SchemaMismatch(
            f"The database has schema {current or 'none'}, and this version needs {wanted}: "
            "run `compute db migrate` first."
        )
    if int(current) > int(wanted) + _MOST_AHEAD:
        raise SchemaMismatch(
            f"The database has schema {current}, which is too new for this version ({wanted}): start a newer one."
        )
