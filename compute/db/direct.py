"""One connection outside the pool, kept for one user and made again when it breaks.

`DirectConnection` is for coroutines, `ThreadDirectConnection` for threads; what they settle is the same and is written
once, in `_Keeping`: which settings hold, when a connection is of no use any more, and what a failure leaves in doubt.
"""

import asyncio
import select
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import TypeVar

from compute.db.away import AwayReason, DatabaseAway, RowLocked, StatementTooSlow, away
from compute.db.patience import Patience, ThreadConnection, connect, connect_thread
from compute.db.session import Connection, Database, libpq_url, set_locally

__all__ = ["DirectConnection", "ThreadDirectConnection", "connect_by_key"]

T = TypeVar("T")

# Statements of the loops reach every row by a key. One plan for good, and none that scans: a table that grew since its
# statistics were taken would otherwise be read whole, or be a hash table, for each of them. And whoever keeps a row
# locked must not hold up all the others of a batch.
_BY_KEY = {
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "cpu_tuple_cost": "1",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_LOCK_SECONDS = 1.0
_IDLE_SECONDS = 20.0
# After a refused connection nobody asks again for so long; a crowd of clients must not keep a server from starting.
_HOLD_OFF_SECONDS = 0.25


class DirectConnection:
    """Not shared: one caller at a time. Connects at the first use."""

    def __init__(
        self,
        database: Database,
        *,
        by_key: bool = True,
        statement_seconds: float = inf,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        """Connect to nothing yet.

        Args:
            database: Where to, and how long anything may take.
            by_key: Statements are prepared at once and planned by key, and a locked row is waited for briefly.
            statement_seconds: After which a statement is stopped, if those of `database` are more.
            idle_seconds: After which a transaction is ended in which nothing is said, likewise.
        """
        patience = _limited(database.patience, by_key, statement_seconds, idle_seconds)
        self._keeping = _Keeping(database.libpq_url, database.pooled, patience, by_key)
        self._connection: Connection | None = None

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` over the connection, which is in autocommit mode, or in a transaction where only that keeps a
        server.

        Raises:
            DatabaseAway: the server is out of reach; a later call connects again. `in_doubt` tells whether `work` may
                have taken effect.
        """
        if self._connection is not None and _hung_up(self._connection):
            # Found before anything is sent, so that the outcome is not in doubt.
            await self.close()
        connection = self._connection = self._connection or await self._connect()
        try:
            if not self._keeping.pooled:
                return await work(connection)
            async with connection.transaction():
                await connection.execute(set_locally(self._keeping.settings))
                return await work(connection)
        except asyncio.CancelledError:
            # A cancelled statement may leave its answer on the line, for the next one to read.
            await self.close()
            raise
        except Exception as error:
            trouble = _trouble(error, connection)
            if trouble is None:
                raise
            if _is_spent(trouble):
                await self.close()
            raise trouble from error

    async def close(self) -> None:
        """Close the connection; the next call makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connect(self) -> Connection:
        self._keeping.hold_off()
        try:
            return await _connect(self._keeping)
        except Exception as error:
            raise self._keeping.refused(error) from error


class ThreadDirectConnection:
    """The same for threads, any number of them: one piece of work at a time."""

    def __init__(self, database_url: str, patience: Patience, *, pooled: bool = False) -> None:
        """Connect to nothing yet. With `pooled` the address leads to a PgBouncer in transaction mode."""
        self._keeping = _Keeping(libpq_url(database_url), pooled, patience, by_key=False)
        self._lock = threading.Lock()
        self._connection: ThreadConnection | None = None

    def run(self, work: Callable[[ThreadConnection], T]) -> T:
        """As `DirectConnection.run`."""
        with self._lock:
            if self._connection is not None and _hung_up(self._connection):
                self._drop()
            connection = self._connection = self._connection or self._connect()
            try:
                if not self._keeping.pooled:
                    return work(connection)
                with connection.transaction():
                    connection.execute(set_locally(self._keeping.settings))
                    return work(connection)
            except Exception as error:
                trouble = _trouble(error, connection)
                if trouble is None:
                    raise
                if _is_spent(trouble):
                    self._drop()
                raise trouble from error

    def close(self) -> None:
        """As `DirectConnection.close`."""
        with self._lock:
            self._drop()

    def _connect(self) -> ThreadConnection:
        self._keeping.hold_off()
        try:
            return connect_thread(self._keeping.url, self._keeping.patience, pooled=self._keeping.pooled)
        except Exception as error:
            raise self._keeping.refused(error) from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


async def connect_by_key(database: Database) -> Connection:
    """A connection whose statements are prepared and planned by key, unless it leads to a pooler.

    Raises:
        psycopg.OperationalError: there is none.
    """
    patience = _limited(database.patience, True, inf, _IDLE_SECONDS)
    return await _connect(_Keeping(database.libpq_url, database.pooled, patience, by_key=True))


@dataclass(slots=True)
class _Keeping:
    """How a connection is made, and when the next one may be."""

    url: str
    pooled: bool
    patience: Patience
    by_key: bool
    not_before: float = 0.0

    @property
    def settings(self) -> Mapping[str, str]:
        return self.patience.settings | (_BY_KEY if self.by_key else {})

    def hold_off(self) -> None:
        """Raises:
        DatabaseAway: the server has refused a moment ago.
        """
        if time.monotonic() < self.not_before:
            raise DatabaseAway(reason=AwayReason.UNREACHABLE, in_doubt=False)

    def refused(self, error: Exception) -> Exception:
        """What to raise when no connection could be made."""
        if (trouble := away(error)) is None:
            return error
        self.not_before = time.monotonic() + _HOLD_OFF_SECONDS
        trouble.in_doubt = False
        return trouble


def _limited(given: Patience, by_key: bool, statement_seconds: float, idle_seconds: float) -> Patience:
    return replace(
        given,
        statement=min(given.statement, statement_seconds),
        lock=min(given.lock, _LOCK_SECONDS) if by_key else given.lock,
        idle=min(given.idle, idle_seconds),
    )


async def _connect(keeping: _Keeping) -> Connection:
    if keeping.pooled or not keeping.by_key:
        return await connect(keeping.url, keeping.patience, pooled=keeping.pooled)
    connection = await connect(keeping.url, keeping.patience, pooled=False, prepare_threshold=0)
    try:
        settings = "; ".join(f"SET {name} = '{value}'" for name, value in keeping.settings.items())
        await connection.execute(settings.encode(), prepare=False)
    except BaseException:
        await connection.close()
        raise
    return connection


def _hung_up(connection: Connection | ThreadConnection) -> bool:
    """Whether an idle connection has ended: it has nothing to say but that (or that a setting of the server changed,
    and then another connection does no harm). Asks the socket, not the server."""
    if connection.closed:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))


def _trouble(error: Exception, connection: Connection | ThreadConnection) -> DatabaseAway | None:
    """What an error says about the database. What a connection that is still open reports took no effect."""
    trouble = away(error)
    if trouble is not None:
        trouble.in_doubt = connection.closed
    return trouble


def _is_spent(trouble: DatabaseAway) -> bool:
    """Whether the connection that met it is of no use any more."""
    return trouble.in_doubt or not isinstance(trouble, RowLocked | StatementTooSlow)
