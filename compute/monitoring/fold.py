"""Adds news of work to its counts and its history, and forgets history that is too old.

Triggers write the news: see the migration `work_counts`. Labels that callers choose are without end: a number of them
has sums of its own, the others share one (`compute.db.tables.work`). One process folds, or forgets, at a time; who
reads meanwhile sees each of them once, as news or in the sums.
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
from compute.db.tables.work import BEYOND, LABELS

__all__ = ["CREATED_METRIC", "ENDED_METRIC", "Folding", "fold"]

_log = logging.getLogger(__name__)

_AT_A_TIME = 10_000
_KEPT = {"minute": timedelta(hours=26), "hour": timedelta(days=31)}
_FORGET_SECONDS = 600.0
_QUICK_SECONDS = 1.0

_WHOSE = "whole, tenant, origin_instance, origin_zone"
_SUM_KEY = f"kind, {_WHOSE}, queue, type, provider, status"
_TIME_KEY = f"kind, span, {_WHOSE}, at, queue"
_EVENTS = ("created", "started", "completed", "failed", "cancelled", "waited", "ran")
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _EVENTS)
_ENDS = ", ".join(
    f"CASE WHEN status = '{status}' THEN ended ELSE 0 END AS {status.lower()}"
    for status in ("COMPLETED", "FAILED", "CANCELLED")
)
CREATED_METRIC, ENDED_METRIC = "compute_tasks_created", "compute_tasks_ended"
"""The series in `metric_sums` that count tasks for ever: by queue and type, and by queue, type and status."""
# Asked for before a batch is looked at, so that what the last one has written is seen.
_TURN = """
SELECT pg_try_advisory_xact_lock(hashtextextended('work_news', 0)), set_config('enable_hashjoin', 'on', true)
"""
_WHOLE = "(VALUES (true), (false)) AS of(whole)"
# Every sum is kept without labels, by installation, by zone, and by both.
_GRAINS = """
LATERAL (VALUES ('', '', true), (origin_instance, '', origin_instance <> ''), ('', origin_zone, origin_zone <> ''),
                (origin_instance, origin_zone, origin_instance <> '' AND origin_zone <> ''))
AS grain(instance, zone, there)
"""
_SPREAD = f"""
CROSS JOIN {_WHOLE} CROSS JOIN {_GRAINS}
  LEFT JOIN named ON named.whole = of.whole AND named.tenant = CASE WHEN of.whole THEN '' ELSE news.tenant END
                 AND named.instance = grain.instance AND named.zone = grain.zone
"""
_NAMED = """
of.whole, CASE WHEN of.whole THEN '' ELSE news.tenant END, coalesce(named.as_instance, ''), coalesce(named.as_zone, '')
"""
_FOLD = f"""
WITH gone AS MATERIALIZED (
    DELETE FROM work_news WHERE id IN (SELECT id FROM work_news ORDER BY id LIMIT %(most)s) RETURNING *
), labels AS MATERIALIZED (
    SELECT of.whole, CASE WHEN of.whole THEN '' ELSE tenant END AS tenant, instance, zone, min(first) AS first
      FROM (SELECT tenant, origin_instance, origin_zone, min(id) AS first FROM gone GROUP BY 1, 2, 3) AS news
     CROSS JOIN {_WHOLE} CROSS JOIN {_GRAINS} WHERE there AND (instance <> '' OR zone <> '') GROUP BY 1, 2, 3, 4
), lacking AS MATERIALIZED (
    SELECT labels.*, row_number() OVER (PARTITION BY whole, tenant, instance = '', zone = '' ORDER BY first)
           AS place
      FROM labels WHERE NOT EXISTS (
           SELECT FROM work_labels AS known
            WHERE known.whole = labels.whole AND known.tenant = labels.tenant AND known.origin_instance = instance
              AND known.origin_zone = zone OFFSET 0)
), room AS MATERIALIZED (
    SELECT whole, tenant, instance, zone,
           CASE WHEN '{BEYOND}' = ANY (own) THEN 0 ELSE {LABELS} - cardinality(own) END AS places
      FROM (SELECT DISTINCT whole, tenant, instance = '' AS instance, zone = '' AS zone FROM lacking) AS asked
     CROSS JOIN LATERAL (SELECT ARRAY(
           SELECT greatest(origin_instance, origin_zone) FROM work_labels
            WHERE work_labels.whole = asked.whole AND work_labels.tenant = asked.tenant
              AND (origin_instance = '') = asked.instance AND (origin_zone = '') = asked.zone) AS own) AS owned
), named AS MATERIALIZED (
    SELECT whole, tenant, instance, zone, fresh,
           CASE WHEN instance = '' OR own THEN instance ELSE '{BEYOND}' END AS as_instance,
           CASE WHEN zone = '' OR own THEN zone ELSE '{BEYOND}' END AS as_zone
      FROM (SELECT labels.*, place IS NOT NULL AS fresh, place IS NULL OR place <= places AS own
              FROM labels LEFT JOIN lacking USING (whole, tenant, instance, zone)
              LEFT JOIN room ON room.whole = labels.whole AND room.tenant = labels.tenant
                            AND room.instance = (labels.instance = '') AND room.zone = (labels.zone = '')) AS labels
), labelled AS (
    INSERT INTO work_labels ({_WHOSE}) SELECT DISTINCT whole, tenant, as_instance, as_zone FROM named WHERE fresh
        ON CONFLICT DO NOTHING
), counted AS (
    INSERT INTO work_sums ({_SUM_KEY}, number, steps)
    SELECT kind, {_NAMED}, queue, type, provider, status, sum(number), sum(steps)
      FROM (SELECT kind, tenant, origin_instance, origin_zone, queue, type, provider, said.status,
                   sum(said.number) AS number, sum(said.steps) AS steps
              FROM gone
             CROSS JOIN LATERAL (VALUES (status, number, steps), ('OPEN', -closed, 0)) AS said(status, number, steps)
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 HAVING sum(said.number) <> 0 OR sum(said.steps) <> 0) AS news
           {_SPREAD} WHERE there
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        ON CONFLICT ({_SUM_KEY}) DO UPDATE
       SET number = work_sums.number + excluded.number, steps = work_sums.steps + excluded.steps
), remembered AS (
    INSERT INTO work_times ({_TIME_KEY}, {", ".join(_EVENTS)})
    SELECT kind, span, {_NAMED}, date_trunc(span, at, 'UTC'), queue, {", ".join(f"sum({name})" for name in _EVENTS)}
      FROM (SELECT kind, tenant, origin_instance, origin_zone, queue, at, {_SUMS}
              FROM (SELECT *, {_ENDS} FROM gone WHERE created <> 0 OR started <> 0 OR ended <> 0) AS events
             GROUP BY 1, 2, 3, 4, 5, 6) AS news
     CROSS JOIN (VALUES ('minute'), ('hour')) AS spans(span)
           {_SPREAD} WHERE there
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
        ON CONFLICT ({_TIME_KEY}) DO UPDATE
       SET {", ".join(f"{name} = work_times.{name} + excluded.{name}" for name in _EVENTS)}
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
    SELECT pg_try_advisory_xact_lock(hashtextextended('work_times', 0)) AS mine
)
DELETE FROM work_times WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM work_times
        WHERE (SELECT mine FROM turn) AND span = %(span)s AND at < now() - %(keep)s
        ORDER BY span, at LIMIT %(most)s FOR UPDATE SKIP LOCKED))
"""
_FORGET_NONE = f"""
DELETE FROM work_sums WHERE number = 0 AND steps = 0 AND ({_SUM_KEY}) IN (
       SELECT {_SUM_KEY} FROM work_sums WHERE number = 0 AND steps = 0 LIMIT %(most)s FOR UPDATE SKIP LOCKED)
"""


class Folding:
    """Folds until cancelled. Several processes may do so; while the database is away it is tried again."""

    def __init__(self, database: Database, *, seconds: float = 2.0) -> None:
        self._connection = DirectConnection(database)
        self._folds = _Repeated(self._connection, _FOLD, turn=_TURN)
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
        await _Repeated(connection, _FOLD, turn=_TURN).run()
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
    of them, until that is quick again. With a `turn`, a statement that says whose it is, others do without."""

    def __init__(self, connection: DirectConnection, statement: str, *, turn: str | None = None) -> None:
        self._connection = connection
        self._statement = statement
        self._turn = turn
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
        async with direct.transaction():
            if self._turn is not None:
                (mine, *_), *_ = await (await direct.execute(self._turn)).fetchall()
                if not mine:
                    return 0
            cursor = await direct.execute(self._statement, values)
        if cursor.description is None:
            return cursor.rowcount
        ((number,),) = await cursor.fetchall()
        return int(number)
