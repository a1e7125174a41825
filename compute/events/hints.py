"""NOTIFY as a hint, never as the truth: whoever misses one finds the same by polling.

NOTIFY takes a lock for the whole server at commit, so it is sent outside the transactions that matter, on a
connection of its own, and a burst of submits makes one notification.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import psycopg
from psycopg import sql

from compute.db.session import Database

__all__ = ["CANCELLED", "ENDED", "READY", "TRAINING", "WORKFLOW", "HintSender", "listen"]

READY = "compute_ready"
CANCELLED = "compute_cancelled"
ENDED = "compute_ended"
WORKFLOW = "compute_workflow"
TRAINING = "compute_training"

_log = logging.getLogger(__name__)
_RECONNECT_SECONDS = 1.0


class HintSender:
    """Sends hints from a background task; `hint` only notes them, for after the commit, and returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()

    def hint(self, channel: str, payload: str = "") -> None:
        self._database.after_commit(partial(self._note, channel, payload))

    def _note(self, channel: str, payload: str) -> None:
        self._pending.add((channel, payload))
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; a lost connection loses hints, which polling makes good."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._database.libpq_url, autocommit=True
                ) as connection:
                    await self._send_over(connection)
            except psycopg.OperationalError as error:
                _log.warning("hints paused, the database is out of reach: %s", error)
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _send_over(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, set()
            for channel, payload in pending:
                await connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))


async def listen(database: Database, channels: Sequence[str], on_hint: Callable[[str, str], None]) -> None:
    """Call `on_hint(channel, payload)` for every hint on `channels` until cancelled, reconnecting as needed."""
    while True:
        try:
            async with _listening(database, channels) as connection:
                async for hint in connection.notifies():
                    on_hint(hint.channel, hint.payload)
        except psycopg.OperationalError as error:
            _log.warning("listening paused, the database is out of reach: %s", error)
        await asyncio.sleep(_RECONNECT_SECONDS)


@contextlib.asynccontextmanager
async def _listening(
    database: Database, channels: Sequence[str]
) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
    async with await psycopg.AsyncConnection.connect(database.libpq_url, autocommit=True) as connection:
        for channel in channels:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield connection
