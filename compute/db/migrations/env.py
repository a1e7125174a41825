"""Alembic's entry point: whatever migrates comes through here, so every migration keeps its rules about locks."""

import time

from alembic import context
from sqlalchemy import Connection, create_engine, inspect, pool, text

from compute.db.migrations.locks import try_until_locked, wait_briefly
from compute.db.migrations.revision import OLDEST_CODE
from compute.db.tables import Base

# Any constant will do: it only has to be the same in every process that migrates.
_MIGRATION_LOCK = 7_310_424
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 600.0


def wait_for_turn(guard: Connection) -> None:
    """Have the lock until this connection ends. Nobody waits for it within a statement: an index that is built beside
    running work waits for the end of all statements, so both would wait for ever."""
    while not guard.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _MIGRATION_LOCK}):
        time.sleep(_POLL_SECONDS)


def migrate() -> None:
    """Apply what is missing, from the last migration that was finished."""
    with engine.connect() as connection:
        # One migration holds no lock that another one took.
        context.configure(
            connection=connection, target_metadata=Base.metadata, compare_type=True, transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()


def note_oldest_code() -> None:
    """Leave word for code that does not know these migrations whether it still works with them."""
    noted = text("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')")
    if inspect(guard).has_table("alembic_version") and guard.scalar(noted) != OLDEST_CODE:
        guard.execute(text(f"COMMENT ON TABLE alembic_version IS '{OLDEST_CODE}'"))


url = context.config.get_main_option("sqlalchemy.url")
if url is None:
    raise RuntimeError("sqlalchemy.url is not set: migrate with compute.db.migrations.upgrade.upgrade")

engine = create_engine(url, poolclass=pool.NullPool)
wait_briefly(engine)
try:
    with engine.connect() as guard:
        wait_for_turn(guard.execution_options(isolation_level="AUTOCOMMIT"))
        patience = context.config.attributes.get("patience_seconds", _PATIENCE_SECONDS)
        try_until_locked(migrate, guard, patience)
        try_until_locked(note_oldest_code, guard, patience)
finally:
    engine.dispose()
