"""Alembic's entry point."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from compute.db.tables import Base

# Any constant will do: it only has to be the same in every process that migrates.
_MIGRATION_LOCK = 7_310_424

url = context.config.get_main_option("sqlalchemy.url")
if url is None:
    raise RuntimeError("sqlalchemy.url is not set: migrate with compute.db.migrate.upgrade")

engine = create_engine(url, poolclass=pool.NullPool)
with engine.begin() as connection:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    context.run_migrations()
engine.dispose()
