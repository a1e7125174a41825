"""Rows by their ids: missing, read anew, locked."""

from uuid import UUID

import pytest
from sqlalchemy import text

from compute.db.away import RowLocked
from compute.db.keys import get_row, lock_row
from compute.db.session import Database
from compute.db.tables import Task, Training, Workflow
from compute.errors import NotFound
from tests.integration.rows import add

NOBODYS = UUID(int=7)
CHANGE = text("UPDATE tasks SET priority = 3 WHERE id = :id")
LOCK = text("SELECT id FROM tasks WHERE id = :id FOR UPDATE NOWAIT")


@pytest.mark.parametrize("table", [Task, Training, Workflow])
async def test_a_row_that_is_not_there_is_named(database: Database, table: type[Task | Training | Workflow]) -> None:
    for find in (get_row, lock_row):
        async with database.transaction() as session:
            with pytest.raises(NotFound, match=f"There is no {table.__name__.lower()} {NOBODYS}"):
                await find(session, table, NOBODYS)


async def test_a_locked_row_is_read_anew_and_nobody_elses_to_lock(database: Database) -> None:
    task = await add(database, priority=1)
    async with database.transaction() as session:
        seen = await get_row(session, Task, task.id)
        async with database.transaction() as other:
            await other.execute(CHANGE, {"id": task.id})
        assert (await get_row(session, Task, task.id)).priority == seen.priority == 1
        assert (await lock_row(session, Task, task.id)).priority == seen.priority == 3
        with pytest.raises(RowLocked):
            async with database.transaction() as other:
                await other.execute(LOCK, {"id": task.id})
    async with database.transaction() as other:
        await other.execute(LOCK, {"id": task.id})
