"""Adds news of work to its counts and its history, and forgets history that is too old.

Triggers write the news: see the migration `work_counts`. One process folds, or forgets, at a time; who reads
meanwhile sees each of them once, as news or in the sums.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from compute.db.away import DatabaseAway, StatementTooSlow
from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database

__all__ = ["CREATED_METRIC", "ENDED_METRIC", "Folding", "fold"]

_log = logging.getLogger(__name__)

_AT_A_TIME = 10_000
_KEPT = {"minute": timedelta(hours=26), "hour": timedelta(days=31)}
_FORGET_SECONDS = 600.0
_QUICK_SECONDS = 1.0

_COUNT_KEY = "kind, whole, tenant, origin_instance, origin_zone, queue, type, provider, status"
_HISTORY_KEY = "kind, span, whole, tenant, at, origin_instance, origin_zone, queue"
_EVENTS = ("created", "started", "completed", "failed", "cancelled", "waited", "ran")
_ENDS = ", ".join(
    f"CASE WHEN status = '{status}' THEN ended ELSE 0 END AS {status.lower()}"
    for status in ("COMPLETED", "FAILED", "CANCELLED")
)
CREATED_METRIC, ENDED_METRIC = "compute_tasks_created", "compute_tasks_ended"
"""The series in `metric_sums` that count tasks for ever: by queue and type, and by queue, type and status."""
_FOLD = f"""
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('work_news', 0)) AS mine
), gone AS (
    DELETE FROM work_news
     WHERE id IN (SELECT id FROM work_news WHERE (SELECT mine FROM turn) ORDER BY id LIMIT %(most)s)
    RETURNING *
), counted AS (
    INSERT INTO work_counts ({_COUNT_KEY}, number, steps)
    SELECT kind, whole, CASE WHEN whole THEN '' ELSE tenant END, origin_instance, origin_zone, queue, type, provider,
           said.status, sum(said.number), sum(said.steps)
      FROM gone
     CROSS JOIN LATERAL (VALUES (status, number, steps), ('OPEN', -closed, 0)) AS said(status, number, steps)
     CROSS JOIN (VALUES (true), (false)) AS of(whole)
     WHERE said.number <> 0 OR said.steps <> 0
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        ON CONFLICT ({_COUNT_KEY}) DO UPDATE
       SET number = work_counts.number + excluded.number, steps = work_counts.steps + excluded.steps
), remembered AS (
    INSERT INTO work_history ({_HISTORY_KEY}, {", ".join(_EVENTS)})
    SELECT kind, span, whole, CASE WHEN whole THEN '' ELSE tenant END, date_trunc(span, at, 'UTC'), origin_instance,
           origin_zone, queue, {", ".join(f"sum({name})" for name in _EVENTS)}
      FROM (SELECT *, {_ENDS} FROM gone WHERE created <> 0 OR started <> 0 OR ended <> 0) AS events
     CROSS JOIN (VALUES ('minute'), ('hour')) AS spans(span)
     CROSS JOIN (VALUES (true), (false)) AS of(whole)
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
        ON CONFLICT ({_HISTORY_KEY}) DO UPDATE
       SET {", ".join(f"{name} = work_history.{name} + excluded.{name}" for name in _EVENTS)}
), totalled AS (
    INSERT INTO metric_sums (name, labels, bounds, counts, total)
    SELECT name, labels, '{{}}', '{{0}}', sum(times)
      FROM gone CROSS JOIN LATERAL (VALUES ('{CREATED_METRIC}', ARRAY[queue, type], created),
                                           ('{ENDED_METRIC}', ARRAY[queue, type, status], ended))
           AS events(name, labels, times)
     WHERE kind = 'task' AND type <> '' AND times <> 0 GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (name, labels) DO UPDATE SET total = metric_sums.total + excluded.total
)
SELECT count(*) FROM gone
"""
_FORGET = """
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('work_history', 0)) AS mine
)
DELETE FROM work_history WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM work_history
        WHERE (SELECT mine FROM turn) AND span = %(span)s AND at < now() - %(keep)s
        ORDER BY span, at LIMIT %(most)s FOR UPDATE SKIP LOCKED))
"""
_FORGET_NONE = """
DELETE FROM work_counts WHERE number = 0 AND steps = 0 AND (kind, whole, tenant, origin_instance, origin_zone, queue,
       type, provider, status) IN (
       SELECT kind, whole, tenant, origin_instance, origin_zone, queue, type, provider, status FROM work_counts
        WHERE number = 0 AND steps = 0 LIMIT %(most)s FOR UPDATE SKIP LOCKED)
"""


class Folding:
    """Folds until cancelled. Several processes may do so; while the database is away it is tried again."""

    def __init__(self, database: Database, *, seconds: float = 2.0) -> None:
        self._connection = DirectConnection(database)
        self._folds = _Repeated(self._connection, _FOLD)
        self._seconds = seconds

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        try:
            while True:
                try:
                    await self._folds.run()
                    if loop.time() >= forget_at:
                        await _forget(self._connection)
                        forget_at = loop.time() + _FORGET_SECONDS
                except DatabaseAway as error:
                    _log.warning("counting later, the database is out of reach: %s", error)
                await asyncio.sleep(self._seconds)
        finally:
            await self._connection.close()


async def fold(database: Database, *, forgetting: bool = False) -> None:
    """Add all news to the sums, once; with `forgetting` also delete history that is too old, and counts of nothing.

    Raises:
        DatabaseAway: the database is away.
    """
    connection = DirectConnection(database)
    try:
        await _Repeated(connection, _FOLD).run()
        if forgetting:
            await _forget(connection)
    finally:
        await connection.close()


async def _forget(connection: DirectConnection) -> None:
    for span, keep in _KEPT.items():
        await _Repeated(connection, _FORGET).run(span=span, keep=keep)
    await _Repeated(connection, _FORGET_NONE).run()


class _Repeated:
    """A statement that deals with so many rows at a time. The database stops one that takes too long: then it is fewer
    of them, until that is quick again."""

    def __init__(self, connection: DirectConnection, statement: str) -> None:
        self._connection = connection
        self._statement = statement
        self._most = _AT_A_TIME

    async def run(self, **values: object) -> None:
        """Repeat it until nothing is left."""
        full = True
        while full:
            most, began = self._most, time.monotonic()
            try:
                full = await self._connection.run(partial(self._once, {"most": most, **values})) == most
            except StatementTooSlow as error:
                if most == 1:
                    raise
                self._most = most // 2
                _log.warning("counting %d rows at a time, %d took too long: %s", self._most, most, error)
            else:
                if time.monotonic() - began < _QUICK_SECONDS:
                    self._most = min(_AT_A_TIME, 2 * most)

    async def _once(self, values: Mapping[str, object], direct: Connection) -> int:
        cursor = await direct.execute(self._statement, values)
        if cursor.description is None:
            return cursor.rowcount
        ((number,),) = await cursor.fetchall()
        return int(number)
