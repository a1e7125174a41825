"""Connections to Postgres. One transaction per request, committed at the edge by whoever opened it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

__all__ = ["DATABASE_AWAY", "Database", "normal_url"]

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""What a query raises while the server restarts, cannot be reached or has no connection left: try again."""


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

    @property
    def libpq_url(self) -> str:
        """The same address as libpq spells it, for a connection outside the pool (LISTEN)."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def close(self) -> None:
        await self.engine.dispose()
