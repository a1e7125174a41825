"""The group commit of what runs report: batches, lost leases, poison, databases that go away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy import select, text, update

from compute.db.session import Database
from compute.db.tables import Task
from compute.dispatch.store import PostgresDispatchStore
from compute.dispatch.writer import LeaseWriter
from compute.schemas.enums import ErrorCategory
from compute.tasks import store as tasks_store
from compute.tasks.leases import Beat, Complete, Fail, Release, Start
from tests.integration.rows import add, claim, history, lease_of, reload
from tests.patience import PATIENCE

COMPLETED_IN_ORDER = ["PENDING", "QUEUED", "EXECUTING", "COMPLETED"]


@asynccontextmanager
async def writing(database: Database, *, patience: float = 30) -> AsyncIterator[LeaseWriter]:
    store = PostgresDispatchStore(database)
    writer = LeaseWriter(store, lease_seconds=10, patience_seconds=patience)
    work = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        writer.close()
        async with asyncio.timeout(PATIENCE):
            await work
        await store.close()


async def claimed(database: Database, count: int) -> list[Task]:
    for _ in range(count):
        await add(database)
    return await claim(database, count)


def start(task: Task) -> Start:
    return Start(lease_of(task), "replica", "test")


async def drop_connections(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def commits(database: Database) -> int:
    async with database.transaction() as session:
        await session.execute(text("SELECT pg_stat_force_next_flush()"))
    async with database.transaction() as session:
        found = await session.scalar(
            text("SELECT count(DISTINCT xmin::text) FROM tasks WHERE status IN ('EXECUTING', 'COMPLETED')")
        )
    return int(found or 0)


async def test_what_arrives_together_is_committed_together(database: Database) -> None:
    tasks = await claimed(database, 40)
    async with writing(database) as writer:
        assert all(await asyncio.gather(*(writer.put(start(task)) for task in tasks)))
    assert await commits(database) == 1


async def test_a_start_and_its_end_in_one_batch_keep_their_order(database: Database) -> None:
    tasks = await claimed(database, 3)
    async with writing(database) as writer:
        written = []
        for task in tasks:
            written += [writer.put(start(task)), writer.put(Complete(lease_of(task), {"metadata": {}}))]
        assert await asyncio.gather(*written) == [True] * 6
    for task in tasks:
        assert await history(database, task) == COMPLETED_IN_ORDER


async def test_every_kind_of_write_in_one_batch(database: Database) -> None:
    begins, beats, completes, fails, releases = tasks = await claimed(database, 5)
    async with writing(database) as writer:
        await asyncio.gather(*(writer.put(start(task)) for task in tasks[1:]))
        held = await asyncio.gather(
            writer.put(Release(lease_of(releases), error=(ErrorCategory.INTERNAL, "again"))),
            writer.put(Fail(lease_of(fails), ErrorCategory.INTERNAL, "broken")),
            writer.put(Complete(lease_of(completes), {})),
            writer.put(Beat(lease_of(beats), 30.0)),
            writer.put(start(begins)),
        )
    assert held == [True] * 5
    rows = [await reload(database, task) for task in tasks]
    assert [row.status for row in rows] == ["EXECUTING", "EXECUTING", "COMPLETED", "FAILED", "PENDING"]
    assert rows[1].progress == 30.0


async def test_a_lost_lease_is_told_and_its_neighbours_are_written(database: Database) -> None:
    tasks = await claimed(database, 4)
    async with database.transaction() as session:
        await tasks_store.cancel(session, tasks[2].id)
    async with writing(database) as writer:
        started = await asyncio.gather(*(writer.put(start(task)) for task in tasks))
        ended = await asyncio.gather(*(writer.put(Complete(lease_of(task), {})) for task in tasks))
    assert started == ended == [True, True, False, True]
    assert (await reload(database, tasks[2])).status == "CANCELLED"


@pytest.mark.parametrize("poison", [{"text": "\x00"}, {"number": float("nan")}, {"object": object()}])
async def test_a_poisoned_result_fails_alone(database: Database, poison: dict[str, object]) -> None:
    tasks = await claimed(database, 5)
    async with writing(database) as writer:
        for task in tasks:
            writer.put(start(task))
        results = [poison if place == 2 else {} for place in range(5)]
        ended = await asyncio.gather(
            *(writer.put(Complete(lease_of(task), result)) for task, result in zip(tasks, results, strict=True)),
            return_exceptions=True,
        )
    assert isinstance(ended[2], psycopg.DataError | TypeError)
    assert ended[:2] + ended[3:] == [True] * 4
    assert [(await reload(database, task)).status for task in tasks] == [
        "COMPLETED", "COMPLETED", "EXECUTING", "COMPLETED", "COMPLETED",
    ]  # fmt: skip


async def test_a_flush_whose_connection_breaks_is_written_by_the_next(database: Database) -> None:
    tasks = await claimed(database, 2)
    async with writing(database) as writer:
        async with database.transaction() as session:
            # The flush waits for this lock: it is under way when its connection breaks.
            await session.scalar(select(Task).where(Task.id == tasks[0].id).with_for_update())
            begun = [writer.put(start(task)) for task in tasks]
            await asyncio.sleep(0.3)
            assert not begun[0].done()
            await drop_connections_but(database, session)
        assert await asyncio.gather(*begun) == [True, True]
        assert await writer.put(Complete(lease_of(tasks[0]), {}))
    assert await history(database, tasks[0]) == COMPLETED_IN_ORDER


async def drop_connections_but(database: Database, session: object) -> None:
    assert hasattr(session, "scalar")
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    async with database.transaction() as other:
        await other.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), :pid)"
            ),
            {"pid": pid},
        )


async def test_a_start_whose_commit_was_not_heard_of_still_counts(database: Database) -> None:
    """The first attempt reached the database, its answer did not come back: the second finds the work done."""
    (task,) = await claimed(database, 1)
    async with writing(database) as writer:
        async with database.transaction() as session:
            # As the attempt that was cut off left it, committed by the time the writer asks again.
            await session.scalar(select(Task).where(Task.id == task.id).with_for_update())
            begun = writer.put(start(task))
            await asyncio.sleep(0.3)
            await drop_connections_but(database, session)
            await session.execute(update(Task).where(Task.id == task.id).values(status="EXECUTING"))
        assert await begun
        assert await writer.put(Complete(lease_of(task), {}))


async def test_a_row_that_somebody_keeps_locked_holds_up_nobody_else(database: Database) -> None:
    locked, *others = await claimed(database, 4)
    async with writing(database) as writer:
        async with database.transaction() as session:
            await session.scalar(select(Task).where(Task.id == locked.id).with_for_update())
            waits = writer.put(start(locked))
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.gather(*(writer.put(start(task)) for task in others)) == [True] * 3
                assert await asyncio.gather(*(writer.put(Beat(lease_of(task), 9.0)) for task in others)) == [True] * 3
            ends = writer.put(Complete(lease_of(locked), {}))
            await asyncio.sleep(0.1)
            assert not waits.done()
        assert await waits
        assert await ends
    assert await history(database, locked) == COMPLETED_IN_ORDER


async def test_a_writer_without_a_database_gives_up_at_last(database: Database) -> None:
    (task,) = await claimed(database, 1)
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none")
    async with writing(nowhere, patience=0.1) as writer:
        assert await writer.put(start(task)) is False
    await nowhere.close()
    assert (await reload(database, task)).status == "QUEUED"


async def test_what_was_put_is_written_though_nobody_waits_any_more(database: Database) -> None:
    (task,) = await claimed(database, 1)
    async with writing(database) as writer:
        waiting = asyncio.ensure_future(writer.put(Release(lease_of(task))))
        waiting.cancel()
    assert (await reload(database, task)).status == "PENDING"


async def test_a_writer_that_has_ended_promises_nothing(database: Database) -> None:
    (task,) = await claimed(database, 1)
    async with writing(database) as writer:
        pass
    assert await writer.put(start(task)) is False
