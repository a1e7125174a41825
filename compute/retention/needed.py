"""Finds due units that must stay because a unit that stays names their files.

The result of a task may be the input of another task, of a training or of a workflow; a step of a workflow may have
reused the result of a step of another one. Each of them has the file's path in its row. So all rows that stay are
read once, from the oldest to the newest, and then, before each batch is deleted, the rows that were added or changed.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from compute.db.session import Connection
from compute.db.tables.tasks import LEASED, READY
from compute.db.tables.workflows import UNENDED
from compute.retention.due import Cutoff, due
from compute.retention.rows import FIRST, ListPosition

__all__ = ["NAMES_IN", "STEP_NAMES_IN", "Needed"]

Run = Callable[[Callable[[Connection], Awaitable[Any]]], Awaitable[Any]]
"""Runs a coroutine function with a connection."""

_AT_A_TIME = {"tasks": 1000, "trainings": 100, "workflows": 50}
_LATE = timedelta(seconds=120)
"""Longest time from the start of a transaction, which is the time in its rows, to its commit."""
_AGAIN_SECONDS = 600.0
_AGAIN_TIMES = 10
"""All rows are read again after so many seconds, or so many times the duration of the last full read, if longer."""
_CHANGED_TIMES = 3
"""Finding changed rows scans all rows that have not ended. The next scan waits so many times as long as the last took,
so that hundreds of thousands of waiting tasks cost a round a quarter of its time at most."""

_ID = '[/"]([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})[/"]'
"""Matches a UUID in a path, or in a step's list of tasks."""

_PAGE = """
page AS MATERIALIZED (
    SELECT * FROM {table} WHERE (created_at, id) > (%(created_at)s, %(id)s) ORDER BY created_at, id LIMIT %(limit)s
), here AS (
    SELECT * FROM page WHERE NOT {due}
)"""
_HERE = "here AS (SELECT * FROM {table} WHERE id = ANY(%(ids)s))"

NAMES_IN = {"tasks": ("spec",), "trainings": ("spec", "request"), "workflows": ("input", "config", "taken")}
"""Columns, by table, in which a row names files of other units. The rows of a workflow also name everything that its
tasks name."""
STEP_NAMES_IN = {"definition": "true", "result": "reused_from IS NOT NULL", "task_ids": "reused_from IS NOT NULL"}
"""Such columns of `workflow_steps`, each with the condition under which it names files that are not the step's own."""

_STEP_WORDS = ", ".join(f"CASE WHEN {where} THEN {column} END" for column, where in STEP_NAMES_IN.items())
_SAID = {
    table: f"SELECT id AS unit, concat_ws(' ', {', '.join(columns)}) AS words FROM here"
    for table, columns in NAMES_IN.items()
}
_SAID["tasks"] += " WHERE step_id IS NULL"
_SAID["workflows"] += f"""
    UNION ALL
    SELECT workflow_id, concat_ws(' ', {_STEP_WORDS}) FROM here JOIN workflow_steps ON workflow_id = here.id"""

_NAMED = """
said AS ({said}), named AS MATERIALIZED (
    SELECT DISTINCT unit AS by, found[1]::uuid AS id
      FROM said CROSS JOIN LATERAL regexp_matches(words, %(pattern)s, 'g') AS found
), needed AS (
    SELECT by, coalesce(CASE WHEN step_id IS NOT NULL THEN workflow_id::uuid END, tasks.id) AS unit
      FROM named JOIN tasks ON tasks.id = named.id WHERE created_at < %(before)s
    UNION ALL
    SELECT by, trainings.id FROM named JOIN trainings ON trainings.id = named.id WHERE created_at < %(before)s
)"""
_UNITS = "ARRAY(SELECT DISTINCT unit FROM needed WHERE unit <> by)"

_LOOK = {
    table: f"""
    WITH {_PAGE.format(table=table, due=due(table, "page"))}, {_NAMED.format(said=said)}
    SELECT {_UNITS}, created_at, id, (SELECT count(*) FROM page) FROM page ORDER BY created_at DESC, id DESC LIMIT 1"""
    for table, said in _SAID.items()
}
_LOOK_INTO = {
    table: f"WITH {_HERE.format(table=table)}, {_NAMED.format(said=said)} SELECT {_UNITS}"
    for table, said in _SAID.items()
}

# A changed row has a new version, written by a transaction that had not ended at the time of the last scan. Comparing
# xmin needs neither an index nor synchronized clocks. The inputs of a task change while it waits, those of a workflow
# when it is started, and the results reused by its steps until they end.
_NOW = "SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text, now()"
_SINCE = "age(xmin) <= age(%(xid)s::xid)"
_CHANGED = {
    # A waiting task that was never changed is new; new rows are read by their age.
    "tasks": f"""
    SELECT ARRAY(SELECT id FROM tasks WHERE {READY} AND {_SINCE} AND updated_at <> created_at),
           ARRAY(SELECT id FROM tasks WHERE {LEASED} AND {_SINCE})""",
    "workflows": f"""
    SELECT ARRAY(SELECT id FROM workflows WHERE {UNENDED} AND {_SINCE}),
           ARRAY(SELECT DISTINCT workflow_id FROM workflow_steps
                  WHERE status = 'COMPLETED' AND task_type = ANY(%(installed)s) AND reused_from IS NOT NULL
                    AND completed_at > greatest(%(moment)s, %(before)s))""",
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """Up to which point changes of a table are known: a transaction id and a time of the database.

    The scan took `took` seconds and ended `at`, a time of the event loop.
    """

    xid: str
    moment: datetime
    at: float = 0.0
    took: float = 0.0


class Needed:
    """The units among those that ended before `cutoff` that are needed by a unit that stays.

    A task of a workflow counts as its workflow. The units that a needed unit needs are needed, too.
    """

    def __init__(self, cutoff: Cutoff, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._cutoff = cutoff
        self._again = again_seconds
        self._read: dict[str, ListPosition] = {}
        self._seen: dict[str, _Seen] = {}
        self._read_at = self._took = 0.0
        self.units: set[UUID] = set()

    async def look(self, run: Run) -> bool:
        """Read the rows added or changed since the last call; all rows the first time and when the last full read is
        old.

        Returns whether all rows were read. Units found due before such a read may be outdated.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        everything = not self._read or began - self._read_at > max(self._again, _AGAIN_TIMES * self._took)
        if everything:
            self._read = dict.fromkeys(_SAID, FIRST)
            self._seen = dict.fromkeys(_CHANGED, _Seen(*await run(_one(_NOW, {}))))
        found: set[UUID] = set()
        for table, seen in self._seen.items():
            if not everything and clock() - seen.at >= _CHANGED_TIMES * seen.took:
                found.update(await self._named_by_changed(table, seen, run))
        for table in _SAID:
            async for units in self._read_on(table, run):
                found.update(units)
        await self._add(found, run)
        if everything:
            self._read_at = clock()
            self._took = self._read_at - began
        return everything

    async def _named_by_changed(self, table: str, seen: _Seen, run: Run) -> set[UUID]:
        clock = asyncio.get_running_loop().time
        began = clock()
        now = await run(_one(_NOW, {}))
        since = self._values(table=table, xid=seen.xid, moment=seen.moment - _LATE)
        some, others = await run(_one(_CHANGED[table], since))
        self._seen[table] = _Seen(now[0], now[1], clock(), clock() - began)
        return await self._named_by([*some, *others], table, run)

    async def _read_on(self, table: str, run: Run) -> AsyncIterator[Iterable[UUID]]:
        position = self._read[table]
        (now,) = await run(_one("SELECT now()", {}))
        # Up to the first page that is not full: rows may be added faster than they are read.
        full = True
        while full:
            row = await run(
                _one(_LOOK[table], self._values(created_at=position.created_at, id=position.id, table=table))
            )
            if row is None:
                break
            units, created_at, last, count = row
            position, full = ListPosition(created_at, last), count == _AT_A_TIME[table]
            yield units
        # Rows committed during the read may be older than the last row read.
        self._read[table] = min(position, ListPosition(now - _LATE, FIRST.id), key=lambda one: (one.created_at, one.id))

    async def _add(self, found: set[UUID], run: Run) -> None:
        while new := list(found - self.units):
            self.units.update(new)
            found = set()
            for table in _LOOK_INTO:
                found.update(await self._named_by(new, table, run))

    async def _named_by(self, rows: Sequence[UUID], table: str, run: Run) -> set[UUID]:
        found: set[UUID] = set()
        size = _AT_A_TIME[table]
        for first in range(0, len(rows), size):
            values = self._values(ids=rows[first : first + size], table=table)
            found.update((await run(_one(_LOOK_INTO[table], values)))[0])
        return found

    def _values(self, *, table: str, **more: Any) -> dict[str, Any]:
        return {"pattern": _ID, "limit": _AT_A_TIME[table], **self._cutoff.of(table), **more}


def _one(statement: str, values: dict[str, Any]) -> Callable[[Connection], Awaitable[tuple[Any, ...] | None]]:
    async def run(connection: Connection) -> tuple[Any, ...] | None:
        return await (await connection.execute(statement, values)).fetchone()

    return run
