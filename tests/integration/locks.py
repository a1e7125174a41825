"""Locked rows, and what waits for them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import text

from compute.db.session import Database
from compute.db.tables import Base
from tests.patience import PATIENCE


@asynccontextmanager
async def locked(database: Database, *rows: Base) -> AsyncIterator[None]:
    """Somebody who keeps these rows locked."""
    async with database.engine.connect() as connection, connection.begin():
        for row in rows:
            await connection.execute(
                text(f"SELECT FROM {row.__tablename__} WHERE id = :id FOR UPDATE"),
                {"id": row.id},  # type: ignore[attr-defined]
            )
        yield


async def waiting_for_locks(database: Database, count: int) -> None:
    """Until so many statements wait for a row that somebody else has locked."""
    async with asyncio.timeout(PATIENCE):
        while await _waiting(database) < count:
            await asyncio.sleep(0.01)


async def _waiting(database: Database) -> int:
    async with database.engine.connect() as connection:
        found = await connection.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
    return int(found or 0)


async def deadlocks(database: Database) -> int:
    """How many circles of waits the server has broken in this database."""
    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
        found = await connection.scalar(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    return int(found or 0)


async def fill(database: Database, count: int, *, status: str, lease_seconds: float) -> Sequence[UUID]:
    """Tasks under leases with fence 1, in the order of their ids."""
    async with database.transaction() as session:
        found = await session.scalars(
            text(
                """
                INSERT INTO tasks (id, task_type, queue, tenant, priority, status, spec, origin_instance, fence,
                                   lease_owner, lease_expires_at)
                SELECT gen_random_uuid(), 'GENERATION', 'inference', 'default', 1, :status, '{"num_outputs": 1}',
                       'test', 1, 'gone', now() + :seconds * interval '1 s' FROM generate_series(1, :count)
                RETURNING id
                """
            ),
            {"count": count, "status": status, "seconds": lease_seconds},
        )
        return sorted(found)
