"""Connections to Postgres. One transaction per request, committed at the edge by whoever opened it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from compute.capacity import Capacity
from compute.db.away import AwayReason, away, told_apart
from compute.db.confinement import ConfinedSession, session_info
from compute.db.patience import Patience, PatientConnection, connect
from compute.settings import Settings

__all__ = ["Connection", "Database", "connection_of", "libpq_url", "normal_url", "set_locally"]

Connection = PatientConnection

_MOST_WAITING = 1000
_WAIT_SECONDS = 30.0
_CHECKOUT_SECONDS = 10.0
_ELSEWHERE = frozenset({AwayReason.READ_ONLY, AwayReason.SHUTTING_DOWN})
"""What another connection may be spared: a failover leaves those that were open with the server that was."""


def normal_url(url: str) -> URL:
    """Any Postgres address as a SQLAlchemy URL for psycopg 3.

    Raises:
        ValueError: not a Postgres address.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError("DATABASE_URL must be a postgresql:// address")
    return parsed.set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """The same address as libpq spells it.

    Example:
        libpq_url("postgresql+psycopg://localhost/compute")  # "postgresql://localhost/compute"
    """
    return normal_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@dataclass(slots=True)
class _Shared:
    """A transaction that several parts of one request write in."""

    database: "Database"
    session: AsyncSession
    after: list[Callable[[], None]] = field(default_factory=list)
    is_open: bool = True


_shared: ContextVar[_Shared | None] = ContextVar("shared_transaction", default=None)


class Database:
    """A pool of connections. Every wait for the server has an end, which `patience` says."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        patience: Patience | None = None,
        pooled: bool = False,
        direct_url: str | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            pool_size: What one process asks of the server at most, twice; so many connections it keeps.
            pooled: `url` leads to a PgBouncer in transaction mode: nothing may outlast a transaction.
            direct_url: The server itself, for what only a session can do (LISTEN); None where `url` is that, or where
                there is none.
        """
        self.url = normal_url(url)
        self.patience = patience or Patience()
        self.pooled = pooled
        self._direct_url = direct_url
        self._tenant: str | None = None
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            async_creator=self._connect_for_pool,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=_CHECKOUT_SECONDS,
            pool_pre_ping=True,
            pool_recycle=1800,
        )
        event.listen(self.engine.sync_engine, "handle_error", _leave_those_that_were_open)
        if pooled:
            event.listen(self.engine.sync_engine, "begin", self._set_locally)
        # Shared transactions may wait for each other; connections are left for everybody else.
        self._shared_slots = Capacity(
            pool_size,
            busy="Too many requests are being stored at the moment; try again later.",
            waiting=_MOST_WAITING,
            seconds=_WAIT_SECONDS,
        )

    @classmethod
    def of(cls, settings: Settings, *, patience: Patience | None = None) -> "Database":
        """The one that the settings name.

        Raises:
            ValueError: DATABASE_URL is not set, or no Postgres address.
        """
        if not settings.database_url:
            raise ValueError("DATABASE_URL is not set")
        return cls(
            settings.database_url,
            patience=patience,
            pooled=settings.database_pooled,
            direct_url=settings.database_direct_url,
        )

    def confined_to(self, tenant: str) -> "Database":
        """The same database, over the same connections, as a caller sees it who is bound to a tenant: see
        `compute.db.confinement`."""
        confined = copy(self)
        confined._tenant = tenant
        return confined

    def _session(self) -> AsyncSession:
        if self._tenant is None:
            return AsyncSession(self.engine, expire_on_commit=False)
        info = session_info(self._tenant)
        return AsyncSession(self.engine, expire_on_commit=False, sync_session_class=ConfinedSession, info=info)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commit when the block ends, roll back when it raises; within a shared transaction both are left to that.

        Example:
            async with database.transaction() as session:
                task = await lock_row(session, Task, task_id)
                task.priority = TaskPriority.HIGH

        Raises:
            DatabaseAway: the database is away. When it was lost during the commit, whether that took effect is not
                known.
        """
        if (shared := self._joined()) is not None:
            yield shared.session
            await shared.session.flush()
            # The next block reads its rows anew, as it would in a transaction of its own.
            shared.session.expunge_all()
            return
        with told_apart():
            async with self._session() as session, session.begin():
                yield session

    @asynccontextmanager
    async def shared_transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction that every `transaction` inside the block joins: all of it is committed, or nothing.

        Raises:
            Overloaded: too many wait for one, or it took too long.
            DatabaseAway: as `transaction` does.
        """
        async with self._shared_slots.taken():
            with told_apart():
                async with self._session() as session:
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
        if shared is None or not shared.is_open or shared.database.engine is not self.engine:
            return None
        if shared.database._tenant != self._tenant:
            raise RuntimeError("a transaction of one tenant cannot be joined by another caller")
        return shared

    async def connect(self, **more: Any) -> Connection:
        """A connection outside the pool, in autocommit mode; `more` are arguments of psycopg's.

        Raises:
            psycopg.OperationalError: there is none.
        """
        return await connect(self.libpq_url, self.patience, pooled=self.pooled, **more)

    @property
    def libpq_url(self) -> str:
        """The address as libpq spells it."""
        return libpq_url(str(self.url.render_as_string(hide_password=False)))

    @property
    def listening_url(self) -> str | None:
        """The address at which LISTEN works, as libpq spells it; None where only a pooler can be reached."""
        if self._direct_url is not None:
            return libpq_url(self._direct_url)
        return None if self.pooled else self.libpq_url

    async def close(self) -> None:
        await self.engine.dispose()

    async def _connect_for_pool(self) -> Connection:
        return await self.connect(autocommit=False)

    def _set_locally(self, connection: Any) -> None:
        connection.exec_driver_sql(set_locally(self.patience.settings))


def set_locally(settings: Mapping[str, str]) -> str:
    """Settings of the server for the transaction that has begun."""
    return "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items())


def _leave_those_that_were_open(context: Any) -> None:
    """Have the pool make its connections anew, where the error says that the server has another part by now."""
    trouble = away(context.original_exception)
    if trouble is not None and trouble.reason in _ELSEWHERE:
        context.is_disconnect = True


async def connection_of(session: AsyncSession) -> Connection:
    """The connection on which a session's transaction is open, for statements beside its own."""
    raw = await (await session.connection()).get_raw_connection()
    return cast("Connection", raw.driver_connection)
