"""What ended long ago and is still needed, because something that stays names files of it.

A task's result may be the input of another task, of a training or of a workflow; a workflow's step may have taken over
the result of another workflow's. Whatever names such a file has its path in its row. So all rows that stay are read
once, from the oldest to the newest, and then those that have come since.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from compute.db.session import Connection
from compute.retention.rows import FIRST, Cutoff, Place

__all__ = ["Needed"]

Run = Callable[[Callable[[Connection], Awaitable[Any]]], Awaitable[Any]]
"""Does a piece of work over a connection."""

_AT_A_TIME = {"tasks": 1000, "trainings": 100, "workflows": 50}
_LATE = timedelta(seconds=15)
"""How long a transaction may take to commit a row: its time is that of its beginning."""
_AGAIN_SECONDS = 600.0
_AGAIN_TIMES = 10
"""After so many seconds, or so many times what it took, all rows are read again: what waits may have been changed."""

_ID = '[/"]([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})[/"]'
"""A part of a path, or a task of a step."""

_PAGE = """
page AS MATERIALIZED (
    SELECT * FROM {table} WHERE (created_at, id) > (%(created_at)s, %(id)s) ORDER BY created_at, id LIMIT %(limit)s
), here AS (
    SELECT * FROM page WHERE NOT (status = ANY(%(ended)s) AND completed_at < %(before)s)
)"""
_HERE = "here AS (SELECT * FROM {table} WHERE id = ANY(%(ids)s))"

# What a task of a workflow names, the rows of its workflow name as well.
_SAID = {
    "tasks": "SELECT id AS unit, spec::text AS words FROM here WHERE step_id IS NULL",
    "trainings": "SELECT id AS unit, concat_ws(' ', spec, request) AS words FROM here",
    "workflows": """
        SELECT id AS unit, concat_ws(' ', input, config, taken) AS words FROM here
        UNION ALL
        SELECT workflow_id, concat_ws(' ', workflow_steps.definition,
                   CASE WHEN reused_from IS NOT NULL THEN concat_ws(' ', result, task_ids) END)
          FROM here JOIN workflow_steps ON workflow_id = here.id""",
}

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
    WITH {_PAGE.format(table=table)}, {_NAMED.format(said=said)}
    SELECT {_UNITS}, created_at, id, (SELECT count(*) FROM page) FROM page ORDER BY created_at DESC, id DESC LIMIT 1"""
    for table, said in _SAID.items()
}
_LOOK_INTO = {
    table: f"WITH {_HERE.format(table=table)}, {_NAMED.format(said=said)} SELECT {_UNITS}"
    for table, said in _SAID.items()
}


class Needed:
    """The tasks, workflows and trainings among those that ended before `cutoff` which something that stays needs.

    A task of a workflow counts as its workflow, and what a needed one needs is needed, too.
    """

    def __init__(self, cutoff: Cutoff, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._cutoff = cutoff
        self._again = again_seconds
        self._read: dict[str, Place] = {}
        self._read_at = self._took = 0.0
        self.units: set[UUID] = set()

    async def look(self, run: Run) -> None:
        """Read what has come since the last time; all, the first time and when that is long ago, for what it takes."""
        clock = asyncio.get_running_loop()
        began = clock.time()
        everything = not self._read or began - self._read_at > max(self._again, _AGAIN_TIMES * self._took)
        if everything:
            self._read = dict.fromkeys(_SAID, FIRST)
        found: set[UUID] = set()
        for table in _SAID:
            async for units in self._read_on(table, run):
                found.update(units)
        await self._add(found, run)
        if everything:
            self._read_at = clock.time()
            self._took = self._read_at - began

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
            place, full = Place(created_at, last), count == _AT_A_TIME[table]
            yield units
        # What was being committed meanwhile is older than what was read.
        self._read[table] = min(place, Place(now - _LATE, FIRST.id), key=lambda one: (one.created_at, one.id))

    async def _add(self, found: set[UUID], run: Run) -> None:
        while new := list(found - self.units):
            self.units.update(new)
            found = set()
            for table, statement in _LOOK_INTO.items():
                size = _AT_A_TIME[table]
                for first in range(0, len(new), size):
                    ids = new[first : first + size]
                    found.update((await run(_one(statement, self._values(ids=ids, table=table))))[0])

    def _values(self, *, table: str, **more: Any) -> dict[str, Any]:
        return {"pattern": _ID, "limit": _AT_A_TIME[table], **self._cutoff.of(table), **more}


def _one(statement: str, values: dict[str, Any]) -> Callable[[Connection], Awaitable[tuple[Any, ...] | None]]:
    async def run(connection: Connection) -> tuple[Any, ...] | None:
        return await (await connection.execute(statement, values)).fetchone()

    return run
