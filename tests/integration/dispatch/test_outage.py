"""A Dispatcher whose database is away for longer than a lease, in every way: what runs goes on, is not run again, and
its ends are written when the database is back."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from compute.db.session import Database
from compute.dispatch.dispatcher import Dispatcher, DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.worker.protocol import Alive, Done, Job, Started, WorkEvent
from tests.integration.absent import SHORT, WAYS, scene
from tests.integration.dispatch.test_dispatcher import LocalPool
from tests.integration.rows import add, history, reload
from tests.patience import PATIENCE

POLICY = DispatchPolicy(lease=1.0, poll=0.05, pulse=0.05, beat=0.2, retry=RetryPolicy(2, 0.01))


@pytest.mark.parametrize("way", WAYS)
async def test_what_runs_is_not_run_again(database: Database, database_url: str, way: str) -> None:
    leave, come_back = WAYS[way]
    begun, finish = asyncio.Semaphore(0), asyncio.Event()

    async def work(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica-1", "tiny")
        begun.release()
        async with asyncio.timeout(PATIENCE):
            while not finish.is_set():
                yield Alive()
                await asyncio.sleep(0.05)
        yield Done()

    tasks = [await add(database) for _ in range(3)]
    pool = LocalPool(work, hands=3)
    async with scene(database_url) as played:
        behind = Database(played.wire.url, patience=SHORT)
        dispatching = asyncio.create_task(Dispatcher(PostgresDispatchStore(behind), [pool], POLICY, "one").run())
        async with asyncio.timeout(PATIENCE):
            for _ in tasks:
                await begun.acquire()
            for task in tasks:
                while (await reload(database, task)).status != "EXECUTING":
                    await asyncio.sleep(0.02)
            await leave(played)
            # All leases have run out by then.
            await asyncio.sleep(3 * POLICY.lease)
            finish.set()
            await asyncio.sleep(POLICY.lease / 2)
            assert not dispatching.done()
            await come_back(played)
            for task in tasks:
                while (await reload(database, task)).status != "COMPLETED":
                    await asyncio.sleep(0.02)
        late = await add(database)
        async with asyncio.timeout(PATIENCE):
            while (await reload(database, late)).status != "COMPLETED":
                await asyncio.sleep(0.02)
        dispatching.cancel()
        await asyncio.wait([dispatching])
        await behind.close()
    assert len(pool.started) == 4
    for task in tasks:
        assert (await reload(database, task)).retry_count == 0
        assert await history(database, task) == ["PENDING", "QUEUED", "EXECUTING", "COMPLETED"]
