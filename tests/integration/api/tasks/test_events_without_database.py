"""Event streams wait for a database that is away, and break for nothing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from compute.api.dialect import Dialect, TaskRef
from compute.api.tasks.stream import task_events
from compute.api.tasks.watch import Heard, TaskWatcher, WatchedState
from compute.db.session import Database, libpq_url
from compute.tasks import store
from tests.integration.absent import SHORT
from tests.integration.api.tasks.test_watch import running
from tests.integration.rows import add

WAITING = ": waiting\n\n"


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database for who does not wait long."""
    database = Database(database_url, patience=SHORT)
    yield database
    await database.close()


@pytest.fixture
async def holder(database: Database, database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A session that keeps what it locks until it rolls back."""
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as connection:
        yield connection


class Ended:
    """A watcher that has seen the end of a task."""

    async def changes(self, _: UUID, __: int | None, ___: Heard) -> AsyncGenerator[WatchedState]:
        yield WatchedState("CANCELLED", 0.0, 0, 1)


def lines_of(task_id: UUID, database: Database, watcher: Any) -> AsyncGenerator[str]:
    resources: Any = SimpleNamespace(database=database, watcher=watcher)
    links: Any = None
    return task_events(resources, TaskRef(task_id, Dialect.CANONICAL), links)


async def test_a_quiet_stream_outlives_it(
    database: Database, hurried: Database, holder: psycopg.AsyncConnection
) -> None:
    task = await add(database)
    watcher = TaskWatcher(hurried, tick_seconds=0.05, keep_alive_seconds=0.1)
    async with running(asyncio.create_task(watcher.run())):
        lines = lines_of(task.id, hurried, watcher)
        assert "event: status" in await anext(lines)
        await holder.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        assert [await anext(lines) for _ in range(3)] == [WAITING] * 3
        await holder.rollback()
        async with database.transaction() as session:
            await store.cancel(session, task.id)
        rest = [line async for line in lines if line != WAITING]
    assert ["event: cancelled" in line for line in rest] == [True]


async def test_the_end_is_told_once_it_is_back(
    database: Database, hurried: Database, holder: psycopg.AsyncConnection
) -> None:
    task = await add(database)
    async with database.transaction() as session:
        await store.cancel(session, task.id)
    await holder.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
    lines = lines_of(task.id, hurried, Ended())
    assert await anext(lines) == WAITING
    await holder.rollback()
    rest = [line async for line in lines if line != WAITING]
    assert ["event: cancelled" in line for line in rest] == [True]
