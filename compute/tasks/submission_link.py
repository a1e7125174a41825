"""The connection that accepted tasks are written over, and what to make of its failures."""

import asyncio
import logging
import select
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from compute.db.session import Connection
from compute.errors import Unavailable
from compute.tasks.submission_rows import Outcome, Submission, write

__all__ = ["AWAY", "UNKNOWN", "Patience", "WriteLink"]

AWAY = "The database does not answer; try again."
UNKNOWN = (
    "The database was lost while it stored this, and whether it did is not known."
    " With an Idempotency-Key it is safe to send it again."
)

_log = logging.getLogger(__name__)
_CONNECT_SECONDS = 5
_PAUSE_SECONDS = 0.1
# After a refused connection nobody asks again for so long; a crowd of clients must not keep a server from starting.
_HOLD_OFF_SECONDS = 0.25
_REFUSED = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `statement` is how long the server may work; one that is silent for `answer`, which is longer, is gone.
    `outcome` is how long the outcome of a write is looked for after the connection was lost."""

    statement: float = 10.0
    answer: float = 15.0
    outcome: float = 5.0


class _NotConnectedError(Exception):
    """Nothing was sent."""


class _LostError(Exception):
    """Something was sent, and no answer came."""


class WriteLink:
    """One connection, opened when it is needed and again after it was lost. It serves one writer."""

    def __init__(self, url: str, patience: Patience) -> None:
        self._url = url
        self._patience = patience
        self._connection: Connection | None = None
        self._not_before = 0.0

    async def write(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Store `batch` as `submission_rows.write` does, if need be again until the outcome is known.

        Raises:
            Unavailable: the database is away or too slow. Nothing was stored, unless the detail is `UNKNOWN`.
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
            except _REFUSED as error:
                raise Unavailable(UNKNOWN if lost_at else AWAY) from error
            if loop.time() > lost_at + self._patience.outcome:
                raise Unavailable(UNKNOWN)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        """Close the connection; the next write opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _attempt(self, batch: Sequence[Submission]) -> list[Outcome]:
        connection = await self._open()
        try:
            async with asyncio.timeout(self._patience.answer):
                return await write(connection, batch)
        except (TimeoutError, psycopg.Error) as error:
            lost = connection.closed or isinstance(error, TimeoutError)
            if lost or isinstance(error, _REFUSED):
                await self.close()
            if lost:
                raise _LostError(str(error) or "no answer") from error
            raise

    async def _open(self) -> Connection:
        if self._connection is not None and _hung_up(self._connection):
            # Found before anything is sent, so that the outcome is not in doubt.
            await self.close()
        if self._connection is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before:
                raise _NotConnectedError
            try:
                self._connection = await self._connect()
            except psycopg.OperationalError as error:
                self._not_before = loop.time() + _HOLD_OFF_SECONDS
                _log.warning("tasks cannot be stored, the database is out of reach: %s", error)
                raise _NotConnectedError from error
        return self._connection

    async def _connect(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            tcp_user_timeout=int(self._patience.answer * 1000),
        )
        try:
            await connection.execute(f"SET statement_timeout = {int(self._patience.statement * 1000)}")
        except BaseException:
            await connection.close()
            raise
        return connection


def _hung_up(connection: Connection) -> bool:
    """Whether an idle connection has ended: it has nothing to say but that (or that a setting of the server changed,
    and then another connection does no harm). Asks the socket, not the server."""
    if connection.closed:
        return True
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    return bool(socket.poll(0))
