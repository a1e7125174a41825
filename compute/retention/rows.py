"""Finds due rows, oldest first by the index of the lists, and deletes them.

A row is due if it has no reason to stay: see `compute.retention.due`. Its events and deliveries are deleted with it;
the tasks of a workflow are deleted with the workflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from compute.db.lists.pages import ListPosition
from compute.db.session import Connection
from compute.retention.due import FOLDERS, Cutoff, due
from compute.training.spec import TRAININGS

__all__ = ["FIRST", "KINDS", "Gone", "Kind", "ListPosition", "PrunePage", "Unit"]

FIRST = ListPosition(datetime.min.replace(tzinfo=UTC), UUID(int=0))
"""The position before all rows."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows and files that are deleted together. `folders` are the prefixes of its files; files below `kept` stay."""

    id: UUID
    folders: tuple[str, ...] = ()
    kept: str | None = None
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class PrunePage:
    """The due units of one page of rows, and the position of the page's last row."""

    due: Sequence[Unit]
    last: ListPosition


@dataclass(frozen=True, slots=True)
class Gone:
    """The number of deleted units and tasks; `more` is true if the same call would delete more."""

    units: int = 0
    tasks: int = 0
    more: bool = False


class Kind(Protocol):
    """One kind of units."""

    name: str
    at_a_time: int
    """The number of rows in a page."""

    async def page(self, connection: Connection, after: ListPosition, cutoff: Cutoff) -> PrunePage | None:
        """Return the next rows after a position that are older than the cutoff; None if there are none."""
        ...

    async def forget(self, connection: Connection, units: Sequence[Unit], cutoff: Cutoff) -> Gone:
        """Delete rows of units whose files are gone, as many as fit a short transaction.

        Rows that are locked, or no longer due, stay.
        """
        ...


_PAGE = """
SELECT {columns}, {due} AS due
  FROM {table}
 WHERE (created_at, id) > (%(created_at)s, %(id)s) AND created_at < %(before)s
 ORDER BY created_at, id LIMIT %(limit)s
"""
_DELETED = """
DELETE FROM webhook_deliveries USING chosen WHERE task_id = chosen.id
"""
_FORGET = f"""
WITH chosen AS MATERIALIZED (
    SELECT id FROM {{table}} WHERE id = ANY(%(ids)s) AND {{due}}
     ORDER BY id FOR UPDATE SKIP LOCKED
), deliveries AS ({_DELETED})
DELETE FROM {{table}} USING chosen WHERE {{table}}.id = chosen.id
"""  # noqa: S608


class _Tasks:
    """Tasks outside workflows."""

    name = "tasks"
    at_a_time = 500
    _page = _PAGE.format(
        table="tasks", columns="created_at, id, task_type", due=f"step_id IS NULL AND {due('tasks', 'tasks')}"
    )
    _forget = _FORGET.format(table="tasks", due=due("tasks", "tasks"))

    async def page(self, connection: Connection, after: ListPosition, cutoff: Cutoff) -> PrunePage | None:
        rows = await _rows(connection, self._page, self, after, cutoff)
        units = [Unit(task, (f"{FOLDERS[kind]}/{task}/",)) for _, task, kind, is_due in rows if is_due]
        return _paged(units, rows)

    async def forget(self, connection: Connection, units: Sequence[Unit], cutoff: Cutoff) -> Gone:
        ids = {"ids": [unit.id for unit in units]}
        return Gone((await connection.execute(self._forget, ids | cutoff.of("tasks"))).rowcount)


class _Workflows:
    """Workflows with their tasks."""

    name = "workflows"
    at_a_time = 20
    _page = _PAGE.format(table="workflows", columns="created_at, id", due=due("workflows", "workflows"))
    _tasks = (
        "SELECT workflow_id::uuid, id, task_type FROM tasks WHERE workflow_id = ANY(%(ids)s) AND step_id IS NOT NULL"
    )
    _lock = f"""
    SELECT id FROM workflows WHERE id = ANY(%(ids)s) AND {due("workflows", "workflows")}
     ORDER BY id FOR UPDATE SKIP LOCKED
    """  # noqa: S608
    _forget_tasks = f"""
    WITH chosen AS MATERIALIZED (
        SELECT id FROM tasks WHERE workflow_id = ANY(%(names)s) AND step_id IS NOT NULL AND status = ANY(%(done)s)
         LIMIT 500 FOR UPDATE SKIP LOCKED
    ), deliveries AS ({_DELETED})
    DELETE FROM tasks USING chosen WHERE tasks.id = chosen.id
    """  # noqa: S608
    _forget = f"""
    WITH chosen AS MATERIALIZED (
        SELECT id FROM workflows WHERE id = ANY(%(ids)s)
           AND NOT EXISTS (SELECT FROM tasks WHERE workflow_id = workflows.id::text AND step_id IS NOT NULL)
    ), deliveries AS ({_DELETED})
    DELETE FROM workflows USING chosen WHERE workflows.id = chosen.id
    """  # noqa: S608

    async def page(self, connection: Connection, after: ListPosition, cutoff: Cutoff) -> PrunePage | None:
        rows = await _rows(connection, self._page, self, after, cutoff)
        folders: dict[UUID, list[str]] = {workflow: [] for _, workflow, is_due in rows if is_due}
        ids = {"ids": [str(workflow) for workflow in folders]}
        for workflow, task, kind in await (await connection.execute(self._tasks, ids)).fetchall():
            # A task added meanwhile can be of any type; the workflow is then no longer due.
            if kind in FOLDERS:
                folders[workflow].append(f"{FOLDERS[kind]}/{task}/")
        units = [Unit(workflow, tuple(names), tasks=len(names)) for workflow, names in folders.items()]
        return _paged(units, rows)

    async def forget(self, connection: Connection, units: Sequence[Unit], cutoff: Cutoff) -> Gone:
        values = {"ids": [unit.id for unit in units], **cutoff.of("workflows")}
        async with connection.transaction():
            # Locked, so that it cannot be resumed meanwhile.
            locked = [row[0] for row in await (await connection.execute(self._lock, values)).fetchall()]
            values |= {"ids": locked, "names": [str(workflow) for workflow in locked]}
            if tasks := (await connection.execute(self._forget_tasks, values)).rowcount:
                return Gone(tasks=tasks, more=True)
            return Gone((await connection.execute(self._forget, values)).rowcount)


class _Trainings:
    """Trainings; the LoRAs and models that they made stay."""

    name = "trainings"
    at_a_time = 20
    _page = _PAGE.format(table="trainings", columns="created_at, id", due=due("trainings", "trainings"))
    _forget = _FORGET.format(table="trainings", due=due("trainings", "trainings"))

    async def page(self, connection: Connection, after: ListPosition, cutoff: Cutoff) -> PrunePage | None:
        rows = await _rows(connection, self._page, self, after, cutoff)
        folders = [(training, f"{TRAININGS}{training}/") for _, training, is_due in rows if is_due]
        return _paged([Unit(training, (folder,), kept=f"{folder}model/") for training, folder in folders], rows)

    async def forget(self, connection: Connection, units: Sequence[Unit], cutoff: Cutoff) -> Gone:
        ids = {"ids": [unit.id for unit in units]}
        return Gone((await connection.execute(self._forget, ids | cutoff.of("trainings"))).rowcount)


class _Deliveries:
    """Deliveries of a task that a client has deleted. Their position is the task's id."""

    name = "deliveries"
    at_a_time = 1000
    _page = """
    WITH page AS MATERIALIZED (
        SELECT * FROM webhook_deliveries WHERE task_id > %(id)s
         ORDER BY task_id FETCH FIRST (%(limit)s) ROWS WITH TIES
    )
    SELECT NULL, task_id, id, status <> 'PENDING' AND coalesce(delivered_at, next_attempt_at) < %(before)s
           AND NOT EXISTS (SELECT FROM tasks WHERE tasks.id = task_id)
           AND NOT EXISTS (SELECT FROM workflows WHERE workflows.id = task_id)
           AND NOT EXISTS (SELECT FROM trainings WHERE trainings.id = task_id)
      FROM page ORDER BY task_id
    """
    _forget = """
    WITH chosen AS MATERIALIZED (
        SELECT id FROM webhook_deliveries WHERE id = ANY(%(ids)s) AND status <> 'PENDING'
         ORDER BY id FOR UPDATE SKIP LOCKED
    )
    DELETE FROM webhook_deliveries USING chosen WHERE webhook_deliveries.id = chosen.id
    """

    async def page(self, connection: Connection, after: ListPosition, cutoff: Cutoff) -> PrunePage | None:
        values = {"id": after.id, "limit": self.at_a_time, "before": cutoff.before}
        rows = await (await connection.execute(self._page, values)).fetchall()
        units = [Unit(delivery) for *_, delivery, is_due in rows if is_due]
        return PrunePage(units, ListPosition(cutoff.before, rows[-1][1])) if rows else None

    async def forget(self, connection: Connection, units: Sequence[Unit], cutoff: Cutoff) -> Gone:
        return Gone((await connection.execute(self._forget, {"ids": [unit.id for unit in units]})).rowcount)


class _Calls:
    """Paid calls without a task: evaluations, captions of trainings that are gone, and calls that have outlived their
    task, which was removed while they were under way. Their position is their id.

    One whose outcome is unknown stays until an operator has settled it.
    """

    name = "calls"
    at_a_time = 1000
    _page = """
    WITH page AS MATERIALIZED (SELECT * FROM provider_calls WHERE id > %(id)s ORDER BY id LIMIT %(limit)s)
    SELECT NULL, id, ended_at < %(before)s AND NOT EXISTS (SELECT FROM tasks WHERE tasks.id = task_id)
           AND NOT EXISTS (SELECT FROM trainings WHERE trainings.id =
                      CASE WHEN part ~ '^training/[0-9a-f-]{36}/' THEN split_part(part, '/', 2)::uuid END)
      FROM page ORDER BY id
    """
    _forget = """
    DELETE FROM provider_calls
     WHERE id = ANY(%(ids)s) AND ended_at IS NOT NULL AND NOT EXISTS (SELECT FROM tasks WHERE tasks.id = task_id)
    """

    async def page(self, connection: Connection, after: ListPosition, cutoff: Cutoff) -> PrunePage | None:
        values = {"id": after.id, "limit": self.at_a_time, "before": cutoff.before}
        rows = await (await connection.execute(self._page, values)).fetchall()
        units = [Unit(call) for _, call, is_due in rows if is_due]
        return PrunePage(units, ListPosition(cutoff.before, rows[-1][1])) if rows else None

    async def forget(self, connection: Connection, units: Sequence[Unit], cutoff: Cutoff) -> Gone:
        return Gone((await connection.execute(self._forget, {"ids": [unit.id for unit in units]})).rowcount)


KINDS: Sequence[Kind] = (_Tasks(), _Workflows(), _Trainings(), _Deliveries(), _Calls())


async def _rows(connection: Connection, statement: str, kind: Kind, after: ListPosition, cutoff: Cutoff) -> list[Any]:
    values = {"created_at": after.created_at, "id": after.id, "limit": kind.at_a_time, **cutoff.of(kind.name)}
    return await (await connection.execute(statement, values)).fetchall()


def _paged(units: Sequence[Unit], rows: Sequence[Any]) -> PrunePage | None:
    return PrunePage(units, ListPosition(*rows[-1][:2])) if rows else None
