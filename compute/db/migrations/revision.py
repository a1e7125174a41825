"""Compares the schema of a database with the one that this code was written for.

Migrations run in a step of their own, `compute db migrate`, before the code that needs them serves. Whoever serves asks
here first.
"""

from pathlib import Path

from compute.db.patience import Patience, connect_thread
from compute.db.session import libpq_url

__all__ = ["OLDEST_CODE", "SchemaMismatch", "current_revision", "require_schema", "wanted_revision"]

OLDEST_CODE = "0006"
"""The schema of the oldest code that works with the present one: that of the last release. A migration that takes away
what such code needs raises it."""


class SchemaMismatch(Exception):
    """The database has another schema than this code can work with. The message says what to do."""


def wanted_revision() -> str:
    """The schema of this code: the number of its last migration."""
    # By the names of the files: Alembic takes a while to import.
    versions = Path(__file__).parent / "versions"
    return max(file.name.partition("_")[0] for file in versions.glob("[0-9]*_*.py"))


def current_revision(database_url: str) -> str | None:
    """The schema of the database; None if it has never been migrated.

    Raises:
        ValueError: not a Postgres address.
        psycopg.Error: it cannot be reached, or refuses us.
    """
    return _noted(database_url)[0]


def require_schema(database_url: str) -> None:
    """Make sure that this code can work with the database: its schema is the code's, or a newer one that says so.

    Raises:
        SchemaMismatch: it is older, or too new.
        ValueError, psycopg.Error: as `current_revision`.
    """
    (current, oldest), wanted = _noted(database_url), wanted_revision()
    if current is None or current < wanted:
        raise SchemaMismatch(
            f"The database has schema {current or 'none'}, and this version needs {wanted}: "
            "run `compute db migrate` first."
        )
    if current > wanted and (oldest is None or oldest > wanted):
        raise SchemaMismatch(
            f"The database has schema {current}, which is too new for this version ({wanted}): start a newer one."
        )


def _noted(database_url: str) -> tuple[str | None, str | None]:
    """The schema of the database, and that of the oldest code that works with it."""
    # What a pooler takes, a server takes as well.
    with connect_thread(libpq_url(database_url), Patience(), pooled=True) as connection:
        oldest = connection.execute(
            "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass('alembic_version')"
        ).fetchone()
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if oldest else None
    return (str(found[0]), oldest[0]) if found and oldest else (None, None)
