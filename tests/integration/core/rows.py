"""Rows and small asserts shared by the tests of the task core."""

from typing import Any
from uuid import uuid4

from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import Task, TaskEvent
from compute.dispatch.fairness import claim_fairly
from compute.tasks import store


def new_task(**values: Any) -> Task:
    defaults = {
        "id": uuid4(),
        "task_type": "GENERATION",
        "queue": "inference",
        "tenant": "default",
        "priority": 1,
        "spec": {"num_outputs": 1},
        "origin_instance": "test",
    }
    return Task(**(defaults | values))


async def add(database: Database, **values: Any) -> Task:
    async with database.transaction() as session:
        return await store.create(session, new_task(**values))


async def claim(database: Database, limit: int = 1, *, queue: str = "inference", lease: float = 10) -> list[Task]:
    async with database.transaction() as session:
        return await claim_fairly(session, queue, limit, owner="test", lease_seconds=lease)


async def reload(database: Database, task: Task) -> Task:
    async with database.transaction() as session:
        return await store.get(session, task.id)


async def history(database: Database, task: Task) -> list[str]:
    """The statuses that the event log of a task shows, in order."""
    async with database.transaction() as session:
        rows = await session.scalars(
            select(TaskEvent.status).where(TaskEvent.task_id == task.id).order_by(TaskEvent.id)
        )
        return list(rows)


def lease_of(task: Task) -> store.Lease:
    return store.Lease(task.id, task.fence)
