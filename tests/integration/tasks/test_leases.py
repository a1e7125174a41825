"""Batches of writes under leases: what holds, what is lost, and what the log and the outbox say of each."""

import random
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import delete, select, update

from compute.db.session import Connection, Database
from compute.db.tables import Task, TaskEvent, WebhookDelivery
from compute.schemas.enums import ErrorCategory, EventType
from compute.schemas.events import TaskStatusEvent
from compute.tasks import store
from compute.tasks.leases import (
    Complete,
    Fail,
    Lease,
    Release,
    Start,
    expired,
    fail_batch,
    release_batch,
    settle_batch,
    start_batch,
)
from tests.integration.rows import add, claim, direct, event_of, history, lease_of, reload

RESULT: dict[str, Any] = {"artifacts": [{"path": "a/0.png"}], "metadata": {"model": "tiny"}}


def starts(tasks: list[Task]) -> list[Start]:
    return [Start(lease_of(task), f"replica-{place}", "test") for place, task in enumerate(tasks)]


async def deliveries(database: Database) -> dict[UUID, dict[str, Any]]:
    async with database.transaction() as session:
        return {row.task_id: row.payload for row in await session.scalars(select(WebhookDelivery))}


async def test_each_task_of_a_batch_gets_its_own_values(database: Database) -> None:
    for _ in range(5):
        await add(database)
    tasks = await claim(database, 5)
    async with direct(database) as connection:
        assert await start_batch(connection, starts(tasks)) == {lease_of(task) for task in tasks}
        ends = [Complete(lease_of(task), {"metadata": {"place": place}}) for place, task in enumerate(tasks)]
        random.Random(3).shuffle(ends)
        assert await settle_batch(connection, ends) == {lease_of(task) for task in tasks}
    for place, task in enumerate(tasks):
        row = await reload(database, task)
        assert row.result == {"metadata": {"place": place}}
        assert row.executor_instance == f"replica-{place}"
        assert await history(database, task) == ["PENDING", "QUEUED", "EXECUTING", "COMPLETED"]


async def test_lost_leases_inside_a_batch_change_nothing_and_leave_no_trace(database: Database) -> None:
    for _ in range(6):
        await add(database, webhook_url="https://example.com/hook")
    tasks = await claim(database, 6)
    kept, cancelled, taken_over = tasks[:2], tasks[2:4], tasks[4:]
    async with direct(database) as connection:
        await start_batch(connection, starts(tasks))
        await release_batch(connection, [Release(lease_of(task)) for task in taken_over])
        for task in cancelled:
            async with database.transaction() as session:
                await store.cancel(session, task.id)
        again = await claim(database, 2)
        held = await settle_batch(connection, [Complete(lease_of(task), RESULT) for task in tasks])
    assert held == {lease_of(task) for task in kept}
    assert {task.id for task in again} == {task.id for task in taken_over}
    assert [(await reload(database, task)).status for task in tasks] == [
        "COMPLETED", "COMPLETED", "CANCELLED", "CANCELLED", "QUEUED", "QUEUED",
    ]  # fmt: skip
    assert {payload["status"] for payload in (await deliveries(database)).values()} == {"COMPLETED", "CANCELLED"}
    assert set(await deliveries(database)) == {task.id for task in kept + cancelled}
    for task in taken_over:
        assert await history(database, task) == ["PENDING", "QUEUED", "EXECUTING", "PENDING", "QUEUED"]


async def test_start_and_end_in_one_write_leave_the_same_row_and_log_as_two(database: Database) -> None:
    for _ in range(2):
        await add(database)
    one, two = await claim(database, 2)
    async with direct(database) as connection:
        first, second = starts([one, two])
        await settle_batch(connection, [Complete(lease_of(one), RESULT, first)])
        await start_batch(connection, [second])
        await settle_batch(connection, [Complete(lease_of(two), RESULT)])
    rows = [await reload(database, task) for task in (one, two)]
    for row in rows:
        assert row.started_at is not None
        assert row.completed_at is not None
        assert row.started_at <= row.completed_at
    assert await history(database, one) == await history(database, two)
    same = ("status", "progress", "result", "executor_type", "lease_owner", "lease_expires_at", "fence", "errors")
    assert [getattr(rows[0], name) for name in same] == [getattr(rows[1], name) for name in same]


async def test_an_end_needs_a_start(database: Database) -> None:
    await add(database)
    (task,) = await claim(database)
    async with direct(database) as connection:
        assert await settle_batch(connection, [Complete(lease_of(task), RESULT)]) == set()
        await start_batch(connection, starts([task]))
        twice = [Complete(lease_of(task), RESULT, starts([task])[0])]
        assert await settle_batch(connection, twice) == set(), "it has begun: a second start is somebody else's"
    assert (await reload(database, task)).status == "EXECUTING"


async def end_as(connection: Connection, lease: Lease, end: str) -> None:
    match end:
        case "COMPLETED":
            await settle_batch(connection, [Complete(lease, RESULT)])
        case "FAILED":
            await fail_batch(connection, [Fail(lease, ErrorCategory.OUT_OF_MEMORY, "CUDA out of memory")])


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
async def test_a_webhook_written_by_sql_says_what_the_event_model_says(database: Database, end: str) -> None:
    await add(
        database, webhook_url="https://example.com/hook", origin_zone="eu", origin_reference="order-7", workflow_id="w"
    )
    (task,) = await claim(database)
    async with direct(database) as connection:
        await start_batch(connection, starts([task]))
        await end_as(connection, lease_of(task), end)
    row = await reload(database, task)
    expected = event_of(row, EventType.TASK_STATUS)
    payload = (await deliveries(database))[task.id]
    assert isinstance(expected, TaskStatusEvent)
    assert payload.keys() == expected.model_dump(mode="json").keys()
    assert TaskStatusEvent.model_validate(payload) == expected
    assert payload["timestamp"].endswith("Z")


async def test_a_task_that_completes_after_all_says_nothing_of_a_failure_but_in_its_history(database: Database) -> None:
    tasks = [await add(database, webhook_url="https://example.com/hook") for _ in range(2)]
    async with direct(database) as connection:
        first = await claim(database, 2)
        await start_batch(connection, starts(first))
        error = (ErrorCategory.OUT_OF_MEMORY, "CUDA out of memory")
        await release_batch(connection, [Release(lease_of(task), error=error) for task in first])
        assert (await reload(database, first[0])).error_category == "OUT_OF_MEMORY"
        again = await claim(database, 2)
        await start_batch(connection, starts(again[:1]))
        await settle_batch(
            connection,
            [Complete(lease_of(again[0]), RESULT), Complete(lease_of(again[1]), RESULT, starts(again[1:])[0])],
        )
    for task in tasks:
        row = await reload(database, task)
        assert (row.status, row.error_category, row.errors) == ("COMPLETED", None, ["CUDA out of memory"])
        payload = (await deliveries(database))[task.id]
        assert (payload["error_category"], payload["error_message"]) == (None, None)
        assert TaskStatusEvent.model_validate(payload) == event_of(row, EventType.TASK_STATUS)


async def test_a_result_that_the_database_refuses_writes_nothing_of_its_batch(database: Database) -> None:
    for _ in range(2):
        await add(database)
    good, poisoned = await claim(database, 2)
    async with direct(database) as connection:
        await start_batch(connection, starts([good, poisoned]))
        with pytest.raises(psycopg.DataError):
            await settle_batch(
                connection,
                [Complete(lease_of(good), RESULT), Complete(lease_of(poisoned), {"metadata": {"text": "\x00"}})],
            )
    assert (await reload(database, good)).status == "EXECUTING"


async def test_only_leases_that_ran_out_are_expired(database: Database) -> None:
    for _ in range(2):
        await add(database)
    (dead,) = await claim(database, lease=0)
    await claim(database, lease=60)
    async with direct(database) as connection, connection.transaction():
        assert [(one.lease, one.owner) for one in await expired(connection, 10)] == [(lease_of(dead), "test")]


async def test_events_go_with_their_task_and_leave_the_others_alone(database: Database) -> None:
    gone, stays = await add(database), await add(database)
    async with database.transaction() as session:
        await session.execute(delete(Task).where(Task.id == gone.id))
    assert await history(database, gone) == []
    assert await history(database, stays) == ["PENDING"]


async def test_a_batch_reads_no_more_than_its_rows_however_many_are_leased(database: Database) -> None:
    """The plan must follow the keys: statistics of an empty table would suggest to read all leased rows."""
    for _ in range(300):
        await add(database)
    tasks = await claim(database, 300)
    async with direct(database) as connection:
        await start_batch(connection, starts(tasks))
        before = await pages_read(connection)
        await settle_batch(connection, [Complete(lease_of(tasks[0]), RESULT)])
        assert await pages_read(connection) - before < 60
    async with database.transaction() as session:
        await session.execute(update(TaskEvent).values(status="X").where(TaskEvent.task_id == tasks[0].id))


async def pages_read(connection: Connection) -> int:
    await connection.execute("SELECT pg_stat_force_next_flush()")
    row = await (
        await connection.execute(
            "SELECT heap_blks_hit + heap_blks_read FROM pg_statio_user_tables WHERE relname = 'tasks'"
        )
    ).fetchone()
    assert row is not None
    return int(row[0])
