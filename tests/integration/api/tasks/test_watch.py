"""Watchers hear of an end by a hint, not by their clock."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from compute.api.tasks.watch import TaskWatcher, WatchedState
from compute.db.direct import connect_by_key
from compute.db.session import Database
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.events import notify
from compute.tasks import store
from compute.worker.protocol import Done, Job, Started, WorkEvent
from compute.worker.vital_signs import with_vital_signs
from compute.worker.watchdog import Watchdog
from tests.integration.rows import add
from tests.patience import PATIENCE

FAR_AWAY = 3600.0
LISTENERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND (query LIKE 'LISTEN%cancelled%' OR query = 'SELECT')
"""
"""Those that have said for what they listen, or since then asked whether the server is still there."""


class Finisher:
    """A pool that ends every job once `go` is set."""

    queue = "inference"
    executor_type = "test"
    resumes = False

    def __init__(self) -> None:
        self.go = asyncio.Event()

    def capacity(self) -> int:
        return 1

    def ready(self) -> int:
        return 1

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        async with aclosing(with_vital_signs(self._finish(), Watchdog(), 1.0)) as events:
            async for event in events:
                yield event

    async def _finish(self) -> AsyncGenerator[WorkEvent]:
        yield Started("test#1", "none")
        await self.go.wait()
        yield Done()


@asynccontextmanager
async def running(work: "asyncio.Task[None]") -> AsyncIterator[None]:
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


@asynccontextmanager
async def watching(database: Database) -> AsyncIterator[TaskWatcher]:
    watcher = TaskWatcher(database, tick_seconds=FAR_AWAY)
    async with running(asyncio.create_task(watcher.run())):
        yield watcher


async def listeners(database: Database, count: int) -> None:
    """Until so many connections listen, the watcher's among them: a hint that comes before is for its clock."""
    async with asyncio.timeout(PATIENCE), await connect_by_key(database) as connection:
        while (await (await connection.execute(LISTENERS)).fetchone()) != (count,):
            await asyncio.sleep(0.02)


async def next_end(changes: AsyncGenerator[WatchedState | None]) -> str:
    async with asyncio.timeout(PATIENCE):
        async for state in changes:
            if state is not None and state.status in {"COMPLETED", "CANCELLED"}:
                return state.status
    pytest.fail("the changes ended")


async def test_an_end_is_heard_of_long_before_the_next_tick(database: Database) -> None:
    task, pool = await add(database), Finisher()
    dispatcher = Dispatcher(PostgresDispatchStore(database), [pool], DispatchPolicy(), "test")
    async with watching(database) as watcher, running(asyncio.create_task(dispatcher.run())):
        changes = watcher.changes(task.id)
        await anext(changes)
        # The Dispatcher listens as well.
        await listeners(database, 2)
        pool.go.set()
        assert await next_end(changes) == "COMPLETED"
        await changes.aclose()


async def test_a_cancel_is_heard_of_long_before_the_next_tick(database: Database) -> None:
    task = await add(database)
    sender = notify.Notifier(database)
    async with watching(database) as watcher, running(asyncio.create_task(sender.run())):
        changes = watcher.changes(task.id)
        await anext(changes)
        await listeners(database, 1)
        async with database.transaction() as session:
            await store.cancel(session, task.id)
        sender.notify(notify.CANCELLED, str(task.id))
        assert await next_end(changes) == "CANCELLED"
        await changes.aclose()
