"""Signs of life of tasks, the cost of their loss, and the share of one pool that several Dispatchers hold."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count

import pytest

from compute.db.session import Database
from compute.db.tables import Task
from compute.dispatch.fairness import claim_batch
from compute.dispatch.store import PostgresDispatchStore
from compute.errors import WorkerLost
from compute.worker.protocol import Alive, Done, Job, Progress, Started, WorkEvent
from tests.integration.dispatch.test_dispatcher import QUICK, LocalPool, dispatching, succeed, until
from tests.integration.rows import add, claim, direct, never_given_up, reload, start
from tests.patience import NEVER, PATIENCE

STARTED = Started("replica-1", "tiny")


class Replica:
    """One device and a reserve. It dies whenever `killer` has it, with all that it holds."""

    def __init__(self, killer: Task, *, begins: bool) -> None:
        self._killer = killer
        self._begins = begins
        self._device = asyncio.Lock()
        self._death = asyncio.Event()
        self.deaths = 0

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        yield Alive()
        if job.task_id == self._killer.id:
            if self._begins:
                yield STARTED
            self._die()
            raise WorkerLost("The replica that ran it died.")
        # Its turn never comes while the killer is about.
        await self._death.wait()
        raise WorkerLost("The replica that ran it died.")

    def _die(self) -> None:
        self.deaths += 1
        self._death.set()
        self._death = asyncio.Event()


@pytest.mark.parametrize("max_retries", [None, 0])
async def test_a_task_that_kills_its_replica_costs_those_that_wait_behind_it_nothing(
    database: Database, max_retries: int | None
) -> None:
    innocents = [await add(database, max_retries=max_retries) for _ in range(2)]
    killer = await add(database, priority=2)
    replica = Replica(killer, begins=True)
    async with dispatching(database, LocalPool(replica.run, hands=3)):
        failed = await until(database, killer, "FAILED")
    assert (failed.retry_count, replica.deaths) == (QUICK.retry.max_retries, QUICK.retry.max_retries + 1)
    for innocent in innocents:
        row = await reload(database, innocent)
        assert (row.status, row.retry_count, row.errors, row.started_at) == ("PENDING", 0, [], None)
        assert row.fence > 1, "it was there when the replica died"


async def test_a_task_that_kills_its_replica_before_it_begins_ends_all_the_same(database: Database) -> None:
    policy = replace(QUICK, retry=replace(QUICK.retry, free_losses=3, longest_seconds=0.05))
    killer = await add(database)
    replica = Replica(killer, begins=False)
    async with dispatching(database, LocalPool(replica.run), policy):
        failed = await until(database, killer, "FAILED")
    assert replica.deaths == policy.retry.free_losses + policy.retry.max_retries + 1
    assert failed.retry_count == policy.retry.max_retries


async def test_a_dead_dispatcher_costs_a_task_that_had_not_begun_nothing(database: Database) -> None:
    waiting, begun = await add(database, max_retries=0), await add(database, max_retries=0)
    for task in await claim(database, 2, lease=0.1):
        if task.id == begun.id:
            await start(database, task)
    async with dispatching(database, LocalPool(succeed)):
        done = await until(database, waiting, "COMPLETED", "FAILED")
        failed = await until(database, begun, "COMPLETED", "FAILED")
    assert (done.status, done.retry_count, done.errors) == ("COMPLETED", 0, [])
    assert failed.status == "FAILED"
    assert "died or was cut off" in failed.errors[-1]


@pytest.mark.parametrize("taken", [True, False])
async def test_nothing_waits_for_ever_behind_a_worker_that_says_nothing(database: Database, taken: bool) -> None:
    """The hung one fails by its silence, those behind it come back for nothing, and another worker does all of them."""
    hung, behind = await add(database, priority=2), await add(database, max_retries=0)
    heals = asyncio.Event()

    async def fall_silent(job: Job) -> AsyncGenerator[WorkEvent]:
        if not heals.is_set():
            if taken or job.task_id == hung.id:
                yield Alive()
            if job.task_id == hung.id:
                yield STARTED
            await asyncio.sleep(NEVER)
        yield STARTED
        yield Done()

    pool = LocalPool(fall_silent, hands=2)
    async with dispatching(database, pool, replace(QUICK, lease=2.0)):
        async with asyncio.timeout(PATIENCE):
            while len(pool.stopped) < 2:
                await asyncio.sleep(0.01)
        heals.set()
        done = [await until(database, task, "COMPLETED", "FAILED") for task in (hung, behind)]
    assert [(row.status, row.retry_count > 0) for row in done] == [("COMPLETED", True), ("COMPLETED", False)]
    # By the run itself, or by the reaper where this process could not run for a while.
    assert "Nothing was heard" in done[0].errors[0] or "died or was cut off" in done[0].errors[0]


async def test_only_the_rows_of_runs_with_news_are_written(database: Database) -> None:
    """A run that only says that it lives is written when its lease is due, and these are not."""
    tasks = [await add(database) for _ in range(5)]

    async def work(job: Job) -> AsyncGenerator[WorkEvent]:
        yield STARTED
        async with asyncio.timeout(PATIENCE):
            for step in count():
                yield Progress(min(step / 100_000, 1)) if job.task_id == tasks[0].id else Alive()
                await asyncio.sleep(0.01)

    async with dispatching(database, LocalPool(work, hands=5), replace(QUICK, lease=NEVER)):
        rows = [await until(database, task, "EXECUTING") for task in tasks]
        written, progress = [row.updated_at for row in rows], rows[0].progress
        async with asyncio.timeout(PATIENCE):
            while rows[0].progress < progress + 0.05:
                rows = [await reload(database, task) for task in tasks]
        assert [row.updated_at for row in rows[1:]] == written[1:]


async def test_dispatchers_of_one_pool_hold_together_what_it_takes(database: Database) -> None:
    """An urgent task waits for one run, not for the reserves of three."""
    await never_given_up(database)
    for _ in range(9):
        await add(database)
    turn, go_on, order = asyncio.Lock(), asyncio.Semaphore(0), []

    async def work(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Alive()
        async with turn:
            yield STARTED
            await go_on.acquire()
            order.append(job.task_id)
        yield Done()

    pools = [LocalPool(work, hands=3) for _ in range(3)]
    async with AsyncExitStack() as stack:
        dispatchers = [dispatching(database, pool, owner=f"dispatcher-{n}") for n, pool in enumerate(pools)]
        for one in dispatchers:
            await stack.enter_async_context(one)
        async with asyncio.timeout(PATIENCE):
            while sum(len(pool.started) for pool in pools) < 3:
                await asyncio.sleep(0.01)
        await asyncio.sleep(4 * QUICK.poll)
        assert sum(len(pool.started) for pool in pools) == 3
        urgent = await add(database, priority=3)
        for _ in range(10):
            go_on.release()
        await until(database, urgent, "COMPLETED")
        async with asyncio.timeout(PATIENCE):
            while len(order) < 10:
                await asyncio.sleep(0.01)
    # Two were in the reserve already, and the third was being drawn.
    assert order.index(urgent.id) <= 3
    assert sum(pool.most_at_once for pool in pools) >= 3


async def test_claimers_that_meet_take_no_more_than_there_is_room_for(database: Database) -> None:
    """However closely their claims follow each other, each one counts those before it."""
    await never_given_up(database)
    for _ in range(200):
        await add(database)
    owners = [f"owner-{n}" for n in range(4)]
    store = PostgresDispatchStore(database)
    for owner in owners:
        await store.beat(owner, {})
    together = asyncio.Barrier(len(owners))

    async def work(owner: str) -> int:
        async with direct(database) as connection:
            await together.wait()
            taken = 0
            for _ in range(10):
                taken += len(await claim_batch(connection, "inference", 7 - taken, owner=owner, lease_seconds=30))
            return taken

    assert sum(await asyncio.gather(*(work(owner) for owner in owners))) == 7
    await store.close()


async def test_what_a_dead_dispatcher_holds_takes_no_room(database: Database) -> None:
    await never_given_up(database)
    for _ in range(5):
        await add(database)
    store = PostgresDispatchStore(database)
    await store.beat("living", {})
    async with direct(database) as connection:
        for owner, limit in (("dead", 2), ("living", 1)):
            assert len(await claim_batch(connection, "inference", limit, owner=owner, lease_seconds=30)) == limit
        assert len(await claim_batch(connection, "inference", 3, owner="me", lease_seconds=30)) == 2
    await store.close()
