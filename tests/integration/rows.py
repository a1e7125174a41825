"""Rows and small asserts shared by the tests of the task core."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.direct import connect_by_key
from compute.db.keys import get_row
from compute.db.session import Connection, Database
from compute.db.tables import Task, TaskEvent
from compute.dispatch.fairness import claim_batch
from compute.events.outbox.tasks import record
from compute.schemas.enums import ErrorCategory, EventType, TaskStatus
from compute.schemas.events import TaskStatusEvent
from compute.tasks.ids import new_task_id
from compute.tasks.leases import (
    Complete,
    Lease,
    Release,
    Start,
    release_batch,
    settle_batch,
    start_batch,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"
"""An id that no row has."""


def new_task(**values: Any) -> Task:
    """A task that may run from its creation on, unless something else is said."""
    if "created_at" in values:
        values.setdefault("run_after", values["created_at"])
    defaults = {
        "id": new_task_id(),
        "task_type": "GENERATION",
        "queue": "inference",
        "tenant": "default",
        "priority": 1,
        "spec": {"num_outputs": 1},
        "origin_instance": "test",
    }
    return Task(**(defaults | values))


async def create(session: AsyncSession, task: Task) -> Task:
    """Store a task as the API does, in a transaction of the test's own."""
    task.status = TaskStatus.PENDING
    session.add(task)
    await session.flush()
    await record(session, [task], EventType.TASK_CREATED)
    return task


def event_of(task: Task, event_type: EventType) -> TaskStatusEvent:
    """What is told of a task: field by field, as the documentation has it."""
    result = task.result or {}
    artifacts = result.get("artifacts")
    return TaskStatusEvent(
        event_type=event_type,
        task_id=task.id,
        task_type=task.task_type,
        origin_instance=task.origin_instance,
        origin_zone=task.origin_zone,
        timestamp=task.updated_at,
        status=TaskStatus(task.status),
        progress=task.progress,
        started_at=task.started_at,
        completed_at=task.completed_at,
        error_category=ErrorCategory(task.error_category) if task.error_category else None,
        error_message=task.errors[-1] if task.errors and task.status != TaskStatus.COMPLETED else None,
        result_image_path=artifacts[0].get("path") if artifacts else None,
        outputs=artifacts,
        origin_reference=task.origin_reference,
        metadata=result.get("metadata"),
    )


async def add(database: Database, **values: Any) -> Task:
    async with database.transaction() as session:
        return await create(session, new_task(**values))


@asynccontextmanager
async def direct(database: Database) -> AsyncIterator[Connection]:
    """A connection such as the Dispatcher writes with."""
    connection = await connect_by_key(database)
    async with connection:
        yield connection


async def claim(database: Database, limit: int = 1, *, queue: str = "inference", lease: float = 10) -> list[Task]:
    """The claimed rows, in the order of the claim."""
    async with direct(database) as connection:
        claimed = await claim_batch(connection, queue, limit, owner="test", lease_seconds=lease)
    async with database.transaction() as session:
        return [await get_row(session, Task, one.lease.task_id) for one in claimed]


async def expire(database: Database, *tasks: Task) -> None:
    """Let the leases of these tasks run out now."""
    async with database.transaction() as session:
        statement = update(Task).where(Task.id.in_([task.id for task in tasks]))
        await session.execute(statement.values(lease_expires_at=func.now()))


async def never_given_up(database: Database) -> None:
    """Nobody takes a dispatcher for dead from here on: as it is when none of them is ever held up."""
    async with database.transaction() as session:
        await session.execute(text(_SEEN_FOR_EVER))
        await session.execute(text(_WHEN_SEEN))


_SEEN_FOR_EVER = """
CREATE FUNCTION seen_for_ever() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN NEW.seen_at := now() + interval '1 day'; RETURN NEW; END $$
"""
_WHEN_SEEN = """
CREATE TRIGGER seen BEFORE INSERT OR UPDATE ON dispatchers FOR EACH ROW EXECUTE FUNCTION seen_for_ever()
"""


async def start(database: Database, task: Task) -> bool:
    async with direct(database) as connection:
        return bool(await start_batch(connection, [Start(lease_of(task), "replica", "test")]))


async def settle(database: Database, task: Task) -> bool:
    result = {"artifacts": [{"path": "a.png"}], "metadata": {}}
    async with direct(database) as connection:
        return bool(await settle_batch(connection, [Complete(lease_of(task), result)]))


async def release(database: Database, task: Task, **values: Any) -> bool:
    async with direct(database) as connection:
        return bool(await release_batch(connection, [Release(lease_of(task), **values)]))


async def reload(database: Database, task: Task) -> Task:
    async with database.transaction() as session:
        return await get_row(session, Task, task.id)


async def history(database: Database, task: Task) -> list[str]:
    """The statuses that the event log of a task shows, in order."""
    async with database.transaction() as session:
        rows = await session.scalars(
            select(TaskEvent.status).where(TaskEvent.task_id == task.id).order_by(TaskEvent.id)
        )
        return list(rows)


def lease_of(task: Task) -> Lease:
    return Lease(task.id, task.fence)
