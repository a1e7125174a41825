"""Connections to Postgres. One transaction per request, committed at the edge by whoever opened it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

__all__ = ["DATABASE_AWAY", "Connection", "Database", "normal_url"]

Connection = psycopg.AsyncConnection[TupleRow]

DATABASE_AWAY = (
    OperationalError,
    InterfaceError,
    PoolTimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
"""What a query raises while the server restarts, cannot be reached or has no connection left: try again."""

# The Dispatcher's statements reach every row by a key. One plan for good, and none that scans: a table that grew since
# its statistics were taken would otherwise be read whole, or be a hash table, for each of them. And whoever keeps a row
# locked must not hold up all the others of a batch.
_DISPATCHING = """
SET plan_cache_mode = force_generic_plan; SET jit = off; SET cpu_tuple_cost = 1;
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET lock_timeout = '1s'
"""


def normal_url(url: str) -> URL:
    """Any Postgres address as a SQLAlchemy URL for psycopg 3.

    Raises:
        ValueError: not a Postgres address.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError("DATABASE_URL must be a postgresql:// address")
    return parsed.set(drivername="postgresql+psycopg")


class Database:
    """A pool of connections. `pool_size` bounds what one process asks of the server."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = normal_url(url)
        self.engine: AsyncEngine = create_async_engine(
            self.url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, pool_recycle=1800
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commit when the block ends, roll back when it raises."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    async def connect(self) -> Connection:
        """A connection outside the pool for the Dispatcher's statements: autocommit, prepared, planned by key."""
        connection = await psycopg.AsyncConnection.connect(
            self.libpq_url, autocommit=True, prepare_threshold=0, connect_timeout=10
        )
        try:
            await connection.execute(_DISPATCHING, prepare=False)
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def libpq_url(self) -> str:
        """The same address as libpq spells it, for a connection outside the pool (LISTEN)."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def close(self) -> None:
        await self.engine.dispose()
