"""Everything at once: whatever dies, each task ends once, along the transition table."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from sqlalchemy import select, text

from compute.db.away import DatabaseAway
from compute.db.embedded.server import start as start_server
from compute.db.migrations.upgrade import upgrade
from compute.db.session import Database
from compute.db.tables import Task, TaskEvent
from compute.dispatch.dispatcher import DispatchPolicy
from compute.dispatch.retry import RetryPolicy
from compute.errors import Conflict
from compute.schemas.enums import TaskStatus
from compute.tasks import store
from compute.tasks.leases import Complete, Fail, Start, fail_batch, settle_batch
from compute.tasks.states import TERMINAL, can_move
from compute.worker.protocol import Done, Job, Progress, Started, WorkEvent
from tests.integration.dispatch.test_dispatcher import LocalPool, dispatching, succeed
from tests.integration.rows import add, claim, direct, lease_of
from tests.patience import NEVER, PATIENCE

ROUGH = DispatchPolicy(
    lease=1.0, poll=0.05, pulse=0.05, beat=0.2, retry=RetryPolicy(max_retries=30, backoff_seconds=0.01)
)


async def moody(job: Job) -> AsyncGenerator[WorkEvent]:
    rng = random.Random(f"{job.task_id} {job.fence}")
    mood = rng.random()
    yield Started("replica", "tiny")
    if mood < 0.3:
        raise ConnectionError("the replica died")
    if mood < 0.6:
        for step in range(rng.randrange(1, 6)):
            yield Progress(step / 6)
            await asyncio.sleep(0.03)
    yield Done({"fence": job.fence})


async def all_ended(database: Database) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(DatabaseAway):
                async with database.transaction() as session:
                    statuses = set(await session.scalars(select(Task.status).distinct()))
                if statuses <= TERMINAL:
                    return
            await asyncio.sleep(0.05)


async def check_every_life(database: Database) -> None:
    async with database.transaction() as session:
        tasks = list(await session.scalars(select(Task)))
        events = list(await session.scalars(select(TaskEvent).order_by(TaskEvent.id)))
    for task in tasks:
        life = [TaskStatus(event.status) for event in events if event.task_id == task.id]
        assert life[0] == TaskStatus.PENDING
        assert life[-1] == task.status
        assert sum(status in TERMINAL for status in life) == 1, life
        for source, target in pairwise(life):
            assert can_move(source, target), life
        if task.status == TaskStatus.COMPLETED:
            assert task.result is not None
            assert task.result["metadata"]["fence"] == task.fence, "the result is that of the last claim"


async def cancel_some(database: Database, tasks: list[Task]) -> None:
    for task in random.Random(1).sample(tasks, 15):
        await asyncio.sleep(0.04)
        with contextlib.suppress(Conflict):
            async with database.transaction() as session:
                await store.cancel(session, task.id)


async def die_and_come_back_late(database: Database) -> None:
    """A dispatcher that claims, falls silent until others have its tasks, and then reports."""
    for turn in range(6):
        stolen = await claim(database, 4, lease=0.05)
        await asyncio.sleep(0.5)
        async with direct(database) as connection:
            for task in stolen:
                begun = Start(lease_of(task), "late", "test")
                await settle_batch(connection, [Complete(lease_of(task), {"metadata": {"fence": task.fence}}, begun)])
                if turn % 2:
                    await fail_batch(connection, [Fail(lease_of(task), store.ErrorCategory.INTERNAL, "late")])


async def break_connections(database: Database) -> None:
    for _ in range(4):
        await asyncio.sleep(0.4)
        async with database.transaction() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND query LIKE '%lease_expires_at%' AND pid <> pg_backend_pid()"
                )
            )


async def test_each_task_ends_once_whatever_happens_to_it(database: Database) -> None:
    tasks = [await add(database, tenant=f"tenant-{n % 5}") for n in range(80)]
    async with (
        dispatching(database, LocalPool(moody, hands=6), ROUGH, owner="first"),
        dispatching(database, LocalPool(moody, hands=6), ROUGH, owner="second"),
    ):
        await asyncio.gather(cancel_some(database, tasks), die_and_come_back_late(database))
        async with dispatching(database, LocalPool(moody, hands=6), ROUGH, owner="leaves at once"):
            await asyncio.sleep(0.1)
        await all_ended(database)
    await check_every_life(database)


async def test_connections_that_break_lose_nothing(database: Database) -> None:
    for n in range(60):
        await add(database, tenant=f"tenant-{n % 5}")
    breaking = Database(database.url.render_as_string(hide_password=False))
    async with dispatching(database, LocalPool(moody, hands=6), ROUGH):
        with contextlib.suppress(DatabaseAway):
            await break_connections(breaking)
        await all_ended(breaking)
    await breaking.close()
    await check_every_life(database)


async def test_a_server_that_restarts_under_load_loses_nothing(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home")
    upgrade(server.url)
    database = Database(server.url)

    async def brief(job: Job) -> AsyncGenerator[WorkEvent]:
        yield Started("replica", "tiny")
        await asyncio.sleep(0.02)
        yield Done({"fence": job.fence})

    try:
        tasks = [await add(database) for _ in range(150)]
        async with dispatching(database, LocalPool(brief, hands=4), ROUGH):
            await asyncio.sleep(0.4)
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(0.3)
            server = await asyncio.to_thread(start_server, tmp_path / "home")
            await all_ended(database)
        await check_every_life(database)
        async with database.transaction() as session:
            ended = list(await session.scalars(select(Task.status).where(Task.id.in_([task.id for task in tasks]))))
        assert set(ended) == {"COMPLETED"}
    finally:
        await database.close()
        server.stop()


async def test_two_dispatchers_share_a_queue_and_run_nothing_twice(database: Database) -> None:
    for _ in range(60):
        await add(database)
    pools = LocalPool(succeed, hands=5), LocalPool(succeed, hands=5)
    # No lease may end while this process is held up.
    policy = replace(ROUGH, lease=NEVER)
    async with (
        dispatching(database, pools[0], policy, owner="first"),
        dispatching(database, pools[1], policy, owner="second"),
    ):
        await all_ended(database)
    ran = [job.task_id for pool in pools for job in pool.started]
    assert len(ran) == len(set(ran)) == 60
