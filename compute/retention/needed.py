"""What ended long ago and is still needed, because something that stays names files of it.

A task's result may be the input of another task, of a training or of a workflow; a workflow's step may have taken over
the result of another workflow's. Whatever names such a file has its path in its row. So all rows that stay are read
once, from the oldest to the newest, and then, before each batch goes, those that have come or been changed since.
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
"""Does a piece of work over a connection."""

_AT_A_TIME = {"tasks": 1000, "trainings": 100, "workflows": 50}
_LATE = timedelta(seconds=120)
"""How long a transaction may take to commit a row: its time is that of its beginning."""
_AGAIN_SECONDS = 600.0
_AGAIN_TIMES = 10
"""After so many seconds, or so many times what it took, all rows are read again."""
_CHANGED_TIMES = 3
"""To find what was changed, all rows that have not ended are looked at: again after so many times what that took, so
that hundreds of thousands of tasks that wait cost a round a quarter of its time at most."""

_ID = '[/"]([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})[/"]'
"""A part of a path, or a task of a step."""

_PAGE = """
page AS MATERIALIZED (
    SELECT * FROM {table} WHERE (created_at, id) > (%(created_at)s, %(id)s) ORDER BY created_at, id LIMIT %(limit)s
), here AS (
    SELECT * FROM page WHERE NOT {due}
)"""
_HERE = "here AS (SELECT * FROM {table} WHERE id = ANY(%(ids)s))"

NAMES_IN = {"tasks": ("spec",), "trainings": ("spec", "request"), "workflows": ("input", "config", "taken")}
"""The columns of each table in which a row names files of others. What a task of a workflow names, the rows of its
workflow name as well."""
STEP_NAMES_IN = {"definition": "true", "result": "reused_from IS NOT NULL", "task_ids": "reused_from IS NOT NULL"}
"""The same of `workflow_steps`, each with the condition that what it names is not the step's own."""

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

# Whoever changes what a row names has written the row anew, so it is of a transaction that was not over at the time of
# the last look: that needs neither an index nor clocks that agree. The inputs of a task change while it waits, those of
# a workflow when it is started, and what its steps have taken over until they end.
_NOW = "SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text, now()"
_SINCE = "age(xmin) <= age(%(xid)s::xid)"
_CHANGED = {
    # One that waits and was never changed is new: those are read by their age.
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
    """Until when changes of a table are known: by transaction and by the database's clock. Finding them `took` so many
    seconds and was over `at`, by ours."""

    xid: str
    moment: datetime
    at: float = 0.0
    took: float = 0.0


class Needed:
    """The tasks, workflows and trainings among those that ended before `cutoff` which something that stays needs.

    A task of a workflow counts as its workflow, and what a needed one needs is needed, too.
    """

    def __init__(self, cutoff: Cutoff, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._cutoff = cutoff
        self._again = again_seconds
        self._read: dict[str, ListPosition] = {}
        self._seen: dict[str, _Seen] = {}
        self._read_at = self._took = 0.0
        self.units: set[UUID] = set()

    async def look(self, run: Run) -> bool:
        """Read what has come or been changed since the last time; all, the first time and when that is long ago.

        Returns whether all was read: what was found due before is as old as that took.
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
        place = self._read[table]
        (now,) = await run(_one("SELECT now()", {}))
        # Not until there is nothing new: rows may come faster than they are read.
        full = True
        while full:
            row = await run(_one(_LOOK[table], self._values(created_at=place.created_at, id=place.id, table=table)))
            if row is None:
                break
            units, created_at, last, count = row
            place, full = ListPosition(created_at, last), count == _AT_A_TIME[table]
            yield units
        # What was being committed meanwhile is older than what was read.
        self._read[table] = min(place, ListPosition(now - _LATE, FIRST.id), key=lambda one: (one.created_at, one.id))

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
