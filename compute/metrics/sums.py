"""Adds what this process has counted to the sums in Postgres, every few seconds.

Counters in memory begin at nothing with every new process, and a scrape reaches one of several. Sums in rows go on,
and any process can tell all of them. What a process has counted since its last write is lost when it is killed, and
what was being written when its connection was lost: it may have arrived, and nothing is counted twice.
"""

import asyncio
import json
import logging
from contextlib import suppress
from contextvars import Context

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.away import DatabaseAway
from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.telemetry.instruments import ALL, Labels, Sums, drain, put_back

__all__ = ["MetricWriter", "read_sums"]

_log = logging.getLogger(__name__)
_STATEMENT_SECONDS = 5.0
_LEAVE_SECONDS = 2.0

# In the order of the key, so that two processes never wait for each other in a circle.
_ADD = """
INSERT INTO metric_sums AS known (name, labels, bounds, counts, total)
SELECT * FROM json_to_recordset(%(sums)s::json)
           AS given(name text, labels text[], bounds float8[], counts bigint[], total float8)
 ORDER BY name, labels
    ON CONFLICT (name, labels) DO UPDATE SET
       bounds = excluded.bounds,
       counts = CASE WHEN known.bounds = excluded.bounds THEN ARRAY(
                    SELECT one + two FROM unnest(known.counts, excluded.counts) WITH ORDINALITY AS pair(one, two, n)
                     ORDER BY n) ELSE excluded.counts END,
       total = CASE WHEN known.bounds = excluded.bounds THEN known.total ELSE 0 END + excluded.total
"""


# As text, so that the lists are those of the driver: to make them anew takes longer than to read them.
_READ = text("SELECT name, labels, bounds, counts, total FROM metric_sums")


class MetricWriter:
    """Writes for one process. While the database is away it goes on counting: the number of series is bounded."""

    def __init__(self, database: Database, *, seconds: float = 5.0, leave_seconds: float = _LEAVE_SECONDS) -> None:
        """Write every `seconds`, and in the end for `leave_seconds` at most; connect to nothing yet."""
        self._connection = DirectConnection(database, statement_seconds=_STATEMENT_SECONDS)
        self._seconds = seconds
        self._leave_seconds = leave_seconds
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Write until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(self._seconds)
                await self.write()
        finally:
            await asyncio.shield(self._leave())

    async def write(self) -> None:
        """Add what was counted since the last time. What cannot be written now is written with the next.

        A write goes on when its caller is cancelled, and the next one waits for it: of one that is broken off, nobody
        knows whether it has counted.
        """
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._writing = asyncio.create_task(self._write(), name="writing figures", context=Context())
        await asyncio.shield(self._writing)

    async def _write(self) -> None:
        taken = drain()
        if not taken:
            return
        rows = [
            {
                "name": name,
                "labels": list(labels),
                "bounds": list(ALL[name].bounds),
                "counts": list(sums.counts),
                "total": sums.total,
            }
            for (name, labels), sums in taken.items()
        ]

        async def add(connection: Connection) -> None:
            # As JSON: the driver's own adaptation of lists within lists takes longer.
            await connection.execute(_ADD, {"sums": json.dumps(rows)})

        try:
            await self._connection.run(add)
        except DatabaseAway as error:
            if not error.in_doubt:
                put_back(taken)
            _log.info("figures are written later, the database is out of reach: %s", error)

    async def _leave(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._leave_seconds):
                await self.write()
        await self.close()

    async def close(self) -> None:
        """Break off what is being written, and close the connection."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        await self._connection.close()


async def read_sums(session: AsyncSession) -> dict[str, dict[Labels, Sums]]:
    """All sums by instrument and labels; those of other bounds than this version's are left out."""
    found: dict[str, dict[Labels, Sums]] = {}
    for name, labels, bounds, counts, total in await session.execute(_READ):
        known = ALL.get(name)
        if known is None or tuple(bounds) == known.bounds:
            found.setdefault(name, {})[tuple(labels)] = Sums(tuple(counts), total)
    return found
