"""A table that somebody keeps locked for longer than a lease, as a plain CREATE INDEX does: no lease is lost,
nothing is charged or run again, and what had to wait is written when the table is free."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from compute.db.patience import Patience
from compute.db.session import Database
from compute.db.tables import Task
from compute.dispatch.dispatcher import DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.worker.protocol import Alive, Done, Job, Started, WorkEvent
from tests.integration.dispatch.test_dispatcher import LocalPool, dispatching, until
from tests.integration.dispatch.test_writer import COMPLETED_IN_ORDER
from tests.integration.rows import add, history, reload
from tests.patience import PATIENCE

# A lease is renewed after a third of that. All ends, tried one by one, would take far longer.
LOCK_SECONDS = 0.3
POLICY = DispatchPolicy(lease=4.0, poll=0.05, pulse=0.05, beat=0.2, retry=RetryPolicy(2, 0.01))
OF_ENDS, OF_ALL_BUT_HEARTBEATS = "webhook_deliveries", "task_events"


@dataclass
class Work:
    """What runs until it is told to end, some of it sooner."""

    short: set[object] = field(default_factory=set)
    end_short: asyncio.Event = field(default_factory=asyncio.Event)
    end_all: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        end = self.end_short if job.task_id in self.short else self.end_all
        async with asyncio.timeout(PATIENCE):
            while not end.is_set():
                yield Alive()
                await asyncio.sleep(0.05)
        yield Done()


@asynccontextmanager
async def patient(database_url: str) -> AsyncIterator[Database]:
    """Whose statements wait only briefly for a lock."""
    database = Database(database_url, patience=Patience(lock=LOCK_SECONDS))
    yield database
    await database.close()


@asynccontextmanager
async def table_locked(database: Database, table: str) -> AsyncIterator[None]:
    async with database.engine.connect() as connection, connection.begin():
        await connection.execute(text(f"LOCK TABLE {table} IN SHARE MODE"))
        yield


async def a_lease_later(database: Database) -> None:
    """Until every lease that holds now would have run out, had nobody renewed it."""
    async with asyncio.timeout(PATIENCE):
        async with database.transaction() as session:
            until_then = await session.scalar(select(func.clock_timestamp())) + timedelta(seconds=1.6 * POLICY.lease)
        while True:
            async with database.transaction() as session:
                if await session.scalar(select(func.clock_timestamp())) > until_then:
                    return
            await asyncio.sleep(0.05)


async def assert_kept(database: Database, tasks: list[Task]) -> None:
    for task in tasks:
        row = await reload(database, task)
        assert (row.status, row.fence, row.retry_count, row.errors) == ("EXECUTING", 1, 0, [])


async def assert_completed(database: Database, tasks: list[Task]) -> None:
    for task in tasks:
        row = await until(database, task, "COMPLETED")
        assert (row.fence, row.retry_count, row.errors) == (1, 0, [])
        assert await history(database, task) == COMPLETED_IN_ORDER


@pytest.mark.parametrize("table", [OF_ENDS, OF_ALL_BUT_HEARTBEATS])
async def test_a_locked_table_costs_no_lease_and_no_result(database: Database, database_url: str, table: str) -> None:
    work = Work()
    tasks = [await add(database, webhook_url="http://127.0.0.1:9/hook") for _ in range(21)]
    work.short = {task.id for task in tasks[:18]}
    pool = LocalPool(work.run, hands=30)
    async with (
        patient(database_url) as behind,
        dispatching(behind, pool, POLICY),
        dispatching(database, LocalPool(work.run, hands=0), POLICY, "second"),
    ):
        for task in tasks:
            await until(database, task, "EXECUTING")
        late = [await add(database) for _ in range(3)] if table == OF_ENDS else []
        async with table_locked(database, table):
            work.end_short.set()
            # What needs nothing of the table goes on.
            for task in late:
                await until(database, task, "EXECUTING")
            await a_lease_later(database)
            await assert_kept(database, tasks + late)
        await assert_completed(database, tasks[:18])
        work.end_all.set()
        await assert_completed(database, tasks + late)
    assert len(pool.started) == len(tasks + late)


async def keep_locked(database: Database, tasks: list[Task], locked: asyncio.Event) -> None:
    """Keep the table of ends locked for longer than a lease."""
    async with table_locked(database, OF_ENDS):
        locked.set()
        await a_lease_later(database)
        await assert_kept(database, tasks)


async def test_a_dispatcher_that_leaves_keeps_the_leases_of_what_waits_to_be_written(
    database: Database, database_url: str
) -> None:
    work = Work()
    tasks = [await add(database) for _ in range(4)]
    work.short = {task.id for task in tasks}
    async with (
        patient(database_url) as behind,
        dispatching(database, LocalPool(work.run, hands=0), POLICY, "second"),
    ):
        pool = LocalPool(work.run, hands=4)
        async with dispatching(behind, pool, POLICY):
            for task in tasks:
                await until(database, task, "EXECUTING")
            locked = asyncio.Event()
            keeping = asyncio.create_task(keep_locked(database, tasks, locked))
            await locked.wait()
            work.end_short.set()
            async with asyncio.timeout(PATIENCE):
                while pool.free() < len(tasks):
                    await asyncio.sleep(0.01)
        # It has left.
        await keeping
        await assert_completed(database, tasks)
