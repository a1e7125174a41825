import asyncio
from itertools import product

import pytest
from sqlalchemy import select, update

from compute.db.session import Database
from compute.db.tables import Task, WebhookDelivery
from compute.errors import Conflict, NotFound
from compute.schemas.enums import ErrorCategory, TaskStatus
from compute.tasks import store
from compute.tasks.leases import Beat, Fail, Lease, beat_batch, fail_batch
from compute.tasks.states import TERMINAL, TRANSITIONS, can_move
from tests.integration.rows import (
    add,
    claim,
    direct,
    history,
    lease_of,
    new_task,
    release,
    reload,
    settle,
    start,
)


async def test_a_task_lives_from_pending_to_completed_with_an_event_for_each_step(database: Database) -> None:
    created = await add(database)
    (claimed,) = await claim(database)
    assert await start(database, claimed)
    assert await settle(database, claimed)

    task = await reload(database, created)
    assert (task.status, task.progress, task.lease_owner) == ("COMPLETED", 100.0, None)
    assert task.started_at is not None
    assert task.completed_at is not None
    assert task.started_at <= task.completed_at
    assert await history(database, task) == ["PENDING", "QUEUED", "EXECUTING", "COMPLETED"]


async def test_a_claim_takes_each_task_once_however_many_claim_at_the_same_time(database: Database) -> None:
    for _ in range(40):
        await add(database)
    batches = await asyncio.gather(*(claim(database, 7) for _ in range(12)))
    taken = [task.id for batch in batches for task in batch]
    rest = await claim(database, 100)
    assert len(taken) == len(set(taken))
    assert len(taken) + len(rest) == 40
    assert all(len(batch) <= 7 for batch in batches)


async def test_a_late_settle_is_dropped_after_the_task_was_taken_over(database: Database) -> None:
    await add(database)
    (late,) = await claim(database)
    await start(database, late)
    await release(database, late)
    (current,) = await claim(database)
    assert current.fence > late.fence

    assert not await settle(database, late)
    assert (await reload(database, current)).status == "QUEUED"
    assert await start(database, current)
    assert await settle(database, current)


async def test_cancel_ends_a_running_task_at_once_and_its_worker_cannot_settle(database: Database) -> None:
    await add(database)
    (running,) = await claim(database)
    await start(database, running)
    async with database.transaction() as session:
        cancelled = await store.cancel(session, running.id)
    assert (cancelled.status, cancelled.error_category) == ("CANCELLED", "CANCELLED")

    assert not await settle(database, running)
    async with direct(database) as connection:
        assert await beat_batch(connection, [Beat(lease_of(running), 50.0)], lease_seconds=5) == set()
    task = await reload(database, running)
    assert (task.status, task.result) == ("CANCELLED", None)


async def test_cancel_of_an_ended_task_is_a_conflict_and_of_an_unknown_one_not_found(database: Database) -> None:
    task = await add(database)
    async with database.transaction() as session:
        await store.cancel(session, task.id)
    with pytest.raises(Conflict, match="CANCELLED"):
        async with database.transaction() as session:
            await store.cancel(session, task.id)
    with pytest.raises(NotFound):
        async with database.transaction() as session:
            await store.cancel(session, new_task().id)


async def test_heartbeat_renews_reports_progress_and_says_which_leases_hold(database: Database) -> None:
    await add(database)
    await add(database)
    held, lost = await claim(database, 2, lease=1)
    await start(database, held)
    before = (await reload(database, held)).lease_expires_at
    assert before is not None
    stale = Lease(lost.id, lost.fence - 1)
    async with direct(database) as connection:
        still = await beat_batch(connection, [Beat(lease_of(held), 40.0), Beat(stale, 90.0)], lease_seconds=60)
        assert still == {lease_of(held)}
        await beat_batch(connection, [Beat(lease_of(held), 10.0)], lease_seconds=60)
    row = await reload(database, held)
    assert row.progress == 40.0, "progress never goes back within a run"
    assert row.lease_expires_at is not None
    assert row.lease_expires_at > before
    assert (await reload(database, lost)).progress == 0


async def test_release_with_an_error_counts_a_retry_and_waits(database: Database) -> None:
    await add(database)
    (task,) = await claim(database)
    await release(database, task, delay_seconds=60, error=(ErrorCategory.STORAGE_ERROR, "bucket is away"))
    row = await reload(database, task)
    assert (row.status, row.retry_count, row.errors) == ("PENDING", 1, ["bucket is away"])
    assert await claim(database) == [], "a retry is not claimed before its time"


async def cancelled(database: Database, task: Task) -> bool:
    try:
        async with database.transaction() as session:
            await store.cancel(session, task.id)
    except Conflict:
        return False
    return True


@pytest.mark.parametrize(("source", "target"), list(product(TaskStatus, TaskStatus)))
async def test_no_write_gets_around_the_transition_table(
    database: Database, source: TaskStatus, target: TaskStatus
) -> None:
    task = await add(database)
    async with database.transaction() as session:
        await session.execute(update(Task).values(status=source, fence=5))
    task.fence = 5
    async with direct(database) as connection:
        match target:
            case TaskStatus.PENDING:
                moved = await release(database, task)
            case TaskStatus.QUEUED:
                moved = bool(await claim(database))
            case TaskStatus.EXECUTING:
                moved = await start(database, task)
            case TaskStatus.COMPLETED:
                moved = await settle(database, task)
            case TaskStatus.FAILED:
                failed = Fail(lease_of(task), ErrorCategory.INTERNAL, "broken")
                moved = bool(await fail_batch(connection, [failed]))
            case TaskStatus.CANCELLED:
                moved = await cancelled(database, task)
    # A failure is told under a lease, which a task that waits has not.
    assert moved == (can_move(source, target) and not (source is TaskStatus.PENDING and target is TaskStatus.FAILED))
    assert (await reload(database, task)).status == (target if moved else source)


def test_every_status_is_in_the_table_and_three_of_them_are_ends() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)
    assert {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED} == TERMINAL


async def test_an_end_enters_the_outbox_once_when_the_task_names_a_webhook(database: Database) -> None:
    await add(database, webhook_url="https://example.com/hook", origin_reference="order-7")
    (task,) = await claim(database)
    await start(database, task)
    await settle(database, task)
    async with database.transaction() as session:
        (delivery,) = await session.scalars(select(WebhookDelivery))
    assert delivery.url == "https://example.com/hook"
    assert delivery.payload["status"] == "COMPLETED"
    assert delivery.payload["result_image_path"] == "a.png"
    assert [output["path"] for output in delivery.payload["outputs"]] == ["a.png"]
    assert delivery.payload["origin_reference"] == "order-7"
