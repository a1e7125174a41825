"""One locked row delays itself alone, and nobody ever waits in a circle."""

import asyncio
import random

from sqlalchemy import select

from compute.db.direct import DirectConnection
from compute.db.session import Database
from compute.db.tables import Task
from compute.dispatch.fairness import claim_batch
from compute.dispatch.reaper import reap
from compute.dispatch.retry import RetryPolicy
from compute.dispatch.store import PostgresDispatchStore
from compute.schemas.enums import ErrorCategory
from compute.tasks import store
from compute.tasks.leases import Beat, Complete, Fail, Lease, Release, Start, Write
from tests.integration.dispatch.test_writer import COMPLETED_IN_ORDER, claimed, start, writing
from tests.integration.locks import deadlocks, fill, locked, waiting_for_locks
from tests.integration.rows import direct, history, lease_of, reload
from tests.patience import PATIENCE

POLICY = RetryPolicy(max_retries=3, backoff_seconds=0.01)
BATCH = 500


async def test_an_end_in_the_batch_of_its_locked_start_waits_for_it(database: Database) -> None:
    stays, *others = await claimed(database, 4)
    async with writing(database) as writer:
        async with locked(database, stays):
            begins, ends = writer.put(start(stays)), writer.put(Complete(lease_of(stays), {}))
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.gather(*(writer.put(start(task)) for task in others)) == [True] * 3
            assert not begins.done()
            assert not ends.done()
        assert await begins
        assert await ends
    assert await history(database, stays) == COMPLETED_IN_ORDER


async def test_a_refused_write_in_the_batch_of_a_locked_row_leaves_the_order_alone(database: Database) -> None:
    stays, poisoned, *others = await claimed(database, 6)
    async with writing(database) as writer:
        await asyncio.gather(*(writer.put(start(task)) for task in [poisoned, *others]))
        async with locked(database, stays):
            begins = writer.put(start(stays))
            refused = writer.put(Complete(lease_of(poisoned), {"text": "\x00"}))
            written = [writer.put(Complete(lease_of(task), {})) for task in others]
            ends = writer.put(Complete(lease_of(stays), {}))
            assert await asyncio.gather(*written) == [True] * 4
            assert not begins.done()
            assert not ends.done()
        assert await asyncio.gather(begins, ends) == [True, True]
        assert refused.exception() is not None
    assert await history(database, stays) == COMPLETED_IN_ORDER


async def test_a_lease_that_cannot_be_renewed_for_a_lock_is_not_lost(database: Database) -> None:
    (stays,) = await claimed(database, 1)
    async with writing(database) as writer:
        async with locked(database, stays):
            async with asyncio.timeout(PATIENCE):
                assert await writer.put(Beat(lease_of(stays), 10.0))
                assert await writer.put(Beat(lease_of(stays), 20.0))
        async with asyncio.timeout(PATIENCE):
            while (await reload(database, stays)).progress < 20:
                await asyncio.sleep(0.02)


async def test_a_cancelled_task_whose_row_was_locked_has_lost_its_lease(database: Database) -> None:
    (stays,) = await claimed(database, 1)
    async with writing(database) as writer:
        async with database.transaction() as session:
            await store.cancel(session, stays.id)
            begins, ends = writer.put(start(stays)), writer.put(Complete(lease_of(stays), {}))
        assert await asyncio.gather(begins, ends) == [False, False]
    assert (await reload(database, stays)).status == "CANCELLED"


async def test_cancelling_many_tasks_and_the_writer_never_wait_in_a_circle(database: Database) -> None:
    """Both are stopped at the same row, each with rows behind it that the other one wants next."""
    ids = await fill(database, 9, status="EXECUTING", lease_seconds=60)
    store_of_leases = PostgresDispatchStore(database)
    ends: list[Write] = [Complete(Lease(task, 1), {}) for task in reversed(ids)]

    async def cancel() -> int:
        async with database.transaction() as session:
            return len(await store.cancel_all(session, ids))

    middle = await reload(database, Task(id=ids[4]))
    async with locked(database, middle):
        cancelling = asyncio.create_task(cancel())
        await waiting_for_locks(database, 1)
        async with asyncio.timeout(PATIENCE):
            held = await store_of_leases.write(ends, lease_seconds=10)
        # The cancel has the first four, somebody has the fifth.
        assert held == [True] * 4 + [None] * 5
    assert await cancelling == 5
    assert await store_of_leases.write(ends[4:], lease_seconds=10) == [False] * 5
    await store_of_leases.close()
    assert await deadlocks(database) == 0


async def test_the_reaper_frees_everything_at_once_but_what_is_locked(database: Database) -> None:
    ids = await fill(database, 6 * BATCH + 3, status="EXECUTING", lease_seconds=-1)
    stays = await reload(database, Task(id=ids[7]))
    connection = DirectConnection(database)
    async with locked(database, stays):
        assert await reap(connection, POLICY) == len(ids) - 1
    assert await reap(connection, POLICY) == 1
    assert await reap(connection, POLICY) == 0
    await connection.close()
    # What is told too late is lost, and not taken for locked.
    late = PostgresDispatchStore(database)
    fence = (await reload(database, stays)).fence
    told: list[Write] = [Fail(Lease(stays.id, fence), ErrorCategory.INTERNAL, "late")]
    assert await late.write(told, lease_seconds=10) == [False]
    await late.close()
    async with database.transaction() as session:
        assert set(await session.scalars(select(Task.status).distinct())) == {"PENDING"}


async def test_all_who_write_at_once_never_wait_in_a_circle(database: Database) -> None:
    rng = random.Random(5)
    ids = await fill(database, 200, status="QUEUED", lease_seconds=60)
    leases = [Lease(task, 1) for task in ids]

    def of_some() -> list[Write]:
        kinds = (
            lambda lease: Start(lease, "replica", "test"),
            lambda lease: Beat(lease, 10.0),
            lambda lease: Complete(lease, {}),
            lambda lease: Fail(lease, ErrorCategory.INTERNAL, "broken"),
            lambda lease: Release(lease, delay_seconds=60),
        )
        return [rng.choice(kinds)(lease) for lease in rng.sample(leases, 60)]

    async def write() -> None:
        of_leases = PostgresDispatchStore(database)
        for _ in range(12):
            await of_leases.write(of_some(), lease_seconds=0.05)
            await of_leases.reap(POLICY)
        await of_leases.close()

    async def cancel() -> None:
        for _ in range(6):
            async with database.transaction() as session:
                await store.cancel_all(session, rng.sample(ids, 20))

    async def claim() -> None:
        async with direct(database) as connection:
            for _ in range(12):
                await claim_batch(connection, "inference", 20, owner="test", lease_seconds=0.05)

    await asyncio.gather(*(work() for work in (write, write, cancel, cancel, claim, claim)))
    assert await deadlocks(database) == 0
