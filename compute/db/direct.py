"""One connection that is kept for statements of a loop, and made again when it breaks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from math import inf
from typing import NamedTuple, TypeVar

from compute.db.away import RowLocked, StatementTooSlow, away
from compute.db.session import Connection, Database, set_locally

__all__ = ["DirectConnection", "connect_by_key"]

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


class DirectConnection:
    """Not shared: one caller at a time. Connects at the first use; statements are prepared, and planned by key."""

    def __init__(
        self, database: Database, *, statement_seconds: float = inf, idle_seconds: float = _IDLE_SECONDS
    ) -> None:
        """`statement_seconds` after which a statement is stopped, and `idle_seconds` after which a transaction is in
        which nothing is said, if those of `database` are more."""
        self._database = database
        self._limits = _Limits(statement_seconds, idle_seconds)
        self._connection: Connection | None = None

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` over the connection, which is in autocommit mode, or in a transaction where only that keeps a
        server. Whether a statement that broke it took effect is not known.

        Raises:
            DatabaseAway: the server is out of reach; the next call connects again.
        """
        try:
            connection = self._connection = self._connection or await _connect(self._database, self._limits)
            if not self._database.pooled:
                return await work(connection)
            async with connection.transaction():
                await connection.execute(set_locally(_settings(self._database, self._limits)))
                return await work(connection)
        except asyncio.CancelledError:
            # A cancelled statement may leave its answer on the line, for the next one to read.
            await self.close()
            raise
        except Exception as error:
            trouble = away(error)
            if trouble is None:
                raise
            if not isinstance(trouble, RowLocked | StatementTooSlow):
                await self.close()
            raise trouble from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def connect_by_key(database: Database) -> Connection:
    """A connection whose statements are prepared and planned by key, unless it leads to a pooler.

    Raises:
        psycopg.OperationalError: there is none.
    """
    return await _connect(database, _Limits())


class _Limits(NamedTuple):
    """In seconds."""

    statement: float = inf
    idle: float = _IDLE_SECONDS


async def _connect(database: Database, limits: _Limits) -> Connection:
    if database.pooled:
        return await database.connect()
    connection = await database.connect(prepare_threshold=0)
    try:
        await connection.execute(_set(_settings(database, limits)), prepare=False)
    except BaseException:
        await connection.close()
        raise
    return connection


def _settings(database: Database, limits: _Limits) -> Mapping[str, str]:
    given = database.patience
    patience = replace(
        given,
        statement=min(given.statement, limits.statement),
        lock=min(given.lock, _LOCK_SECONDS),
        idle=min(given.idle, limits.idle),
    )
    return patience.settings | _BY_KEY


def _set(settings: Mapping[str, str]) -> str:
    return "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())
