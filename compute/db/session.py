"""Connections to Postgres. One transaction per request, committed at the edge by whoever opened it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from compute.capacity import Capacity

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

_MOST_WAITING = 1000
_WAIT_SECONDS = 30.0

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


@dataclass(slots=True)
class _Shared:
    """A transaction that several parts of one request write in."""

    database: "Database"
    session: AsyncSession
    after: list[Callable[[], None]] = field(default_factory=list)
    is_open: bool = True


_shared: ContextVar[_Shared | None] = ContextVar("shared_transaction", default=None)


class Database:
    """A pool of connections. `pool_size` bounds what one process asks of the server."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = normal_url(url)
        self.engine: AsyncEngine = create_async_engine(
            self.url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, pool_recycle=1800
        )
        # Shared transactions may wait for each other; connections are left for everybody else.
        self._shared_slots = Capacity(
            pool_size,
            busy="Too many requests with an Idempotency-Key are being carried out; try again later.",
            waiting=_MOST_WAITING,
            seconds=_WAIT_SECONDS,
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commit when the block ends, roll back when it raises; within a shared transaction both are left to that."""
        if (shared := self._joined()) is not None:
            yield shared.session
            await shared.session.flush()
            # The next block reads its rows anew, as it would in a transaction of its own.
            shared.session.expunge_all()
            return
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def shared_transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction that every `transaction` inside the block joins: all of it is committed, or nothing.

        Raises:
            Overloaded: too many wait for one, or it took too long.
        """
        async with self._shared_slots.taken(), AsyncSession(self.engine, expire_on_commit=False) as session:
            shared = _Shared(self, session)
            token = _shared.set(shared)
            try:
                async with session.begin():
                    yield session
            finally:
                shared.is_open = False
                _shared.reset(token)
        for act in shared.after:
            act()

    def after_commit(self, act: Callable[[], None]) -> None:
        """Call `act` when the shared transaction of this block is committed; at once if there is none."""
        if (shared := self._joined()) is not None:
            shared.after.append(act)
        else:
            act()

    def _joined(self) -> _Shared | None:
        shared = _shared.get()
        return shared if shared is not None and shared.database is self and shared.is_open else None

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
