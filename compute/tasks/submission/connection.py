"""The connection that accepted tasks are written over, and what to make of its failures."""

import asyncio
import logging
import select
from collections.abc import Sequence

import psycopg

from compute.db.away import DatabaseAway, RowLocked, StatementTooSlow, told_apart
from compute.db.patience import connect
from compute.db.session import Connection, Database, set_locally
from compute.errors import Unavailable
from compute.tasks.submission.rows import Outcome, Submission, write

__all__ = ["AWAY", "OUTCOME_SECONDS", "OutcomeUnknown", "WriteLink"]

OUTCOME_SECONDS = 5.0
AWAY = "The database does not answer; try again."

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.1
# After a refused connection nobody asks again for so long; a crowd of clients must not keep a server from starting.
_HOLD_OFF_SECONDS = 0.25


class OutcomeUnknown(Unavailable):
    """The connection was lost during a write; whether that took effect could not be found out."""

    def __init__(
        self, detail: str = "The database was lost while it stored this, and whether it did is not known."
    ) -> None:
        super().__init__(detail)


class _NotConnectedError(Exception):
    """Nothing was sent."""


class _LostError(Exception):
    """Something was sent, and no answer came."""


class WriteLink:
    """One connection, opened when it is needed and again after it was lost. It serves one writer."""

    def __init__(self, database: Database, *, outcome_seconds: float = OUTCOME_SECONDS) -> None:
        """`outcome_seconds` is how long the outcome of a write is looked for after the connection was lost."""
        self._url = database.libpq_url
        self._pooled = database.pooled
        self._patience = database.patience
        self._outcome_seconds = outcome_seconds
        self._connection: Connection | None = None
        self._not_before = 0.0

    async def write(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Store `batch` as `submission_rows.write` does, if need be again until the outcome is known.

        Raises:
            OutcomeUnknown: the connection was lost, and not to be had again in time.
            Unavailable: the database is away or too slow; nothing was stored.
            psycopg.Error: the database refused the content; nothing was stored.
        """
        loop = asyncio.get_running_loop()
        lost_at: float | None = None
        while True:
            try:
                return await self._attempt(batch)
            except _NotConnectedError as error:
                if lost_at is None:
                    raise Unavailable(AWAY) from error
            except _LostError as error:
                lost_at = lost_at or loop.time()
                _log.warning("the connection was lost during a write, which is repeated: %s", error)
            except DatabaseAway as error:
                raise OutcomeUnknown if lost_at else Unavailable(AWAY) from error
            if loop.time() > lost_at + self._outcome_seconds:
                raise OutcomeUnknown
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        """Close the connection; the next write opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _attempt(self, batch: Sequence[Submission]) -> list[Outcome]:
        connection = await self._open()
        try:
            with told_apart():
                return await self._write(connection, batch)
        except DatabaseAway as error:
            lost = connection.closed
            if lost or not isinstance(error, RowLocked | StatementTooSlow):
                await self.close()
            if lost:
                raise _LostError(str(error)) from error
            raise

    async def _write(self, connection: Connection, batch: Sequence[Submission]) -> list[Outcome]:
        if not self._pooled:
            return await write(connection, batch)
        async with connection.transaction():
            await connection.execute(set_locally(self._patience.settings))
            return await write(connection, batch)

    async def _open(self) -> Connection:
        if self._connection is not None and _hung_up(self._connection):
            # Found before anything is sent, so that the outcome is not in doubt.
            await self.close()
        if self._connection is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before:
                raise _NotConnectedError
            try:
                self._connection = await connect(self._url, self._patience, pooled=self._pooled)
            except psycopg.OperationalError as error:
                self._not_before = loop.time() + _HOLD_OFF_SECONDS
                _log.warning("tasks cannot be stored, the database is out of reach: %s", error)
                raise _NotConnectedError from error
        return self._connection


def _hung_up(connection: Connection) -> bool:
    """Whether an idle connection has ended: it has nothing to say but that (or that a setting of the server changed,
    and then another connection does no harm). Asks the socket, not the server."""
    if connection.closed:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))
