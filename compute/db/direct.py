"""One connection that is kept for the Dispatcher's statements, and made again when it breaks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from compute.db.session import DATABASE_AWAY, Connection, Database

__all__ = ["DirectConnection"]

T = TypeVar("T")


class DirectConnection:
    """Not shared: one caller at a time. Connects at the first use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` over the connection. Whether a statement that broke it took effect is not known.

        Raises:
            one of DATABASE_AWAY: the server is out of reach; the next call connects again.
        """
        if self._connection is None:
            self._connection = await self._database.connect()
        try:
            return await work(self._connection)
        except (*DATABASE_AWAY, asyncio.CancelledError):
            # A cancelled statement may leave its answer on the line, for the next one to read.
            await self.close()
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
