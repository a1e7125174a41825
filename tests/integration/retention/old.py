"""Things that ended a number of days ago, with their files."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, text

from compute.db.session import Database
from compute.db.tables import (
    Base,
    Task,
    Training,
    WebhookAttempt,
    WebhookDelivery,
    Workflow,
    WorkflowEvent,
    WorkflowStep,
)
from compute.retention.pruner import Pruner
from compute.storage.local import LocalStore
from tests.integration.rows import add

KEEP = timedelta(days=30)


class Files(LocalStore):
    """A folder; `before_removal` is called with the prefix of what is about to be removed."""

    before_removal: Callable[[str], Awaitable[None]] | None = None

    async def delete_prefix(self, prefix: str) -> int:
        if self.before_removal is not None:
            await self.before_removal(prefix)
        return await super().delete_prefix(prefix)

    async def paths(self, prefix: str = "") -> set[str]:
        return {stored.path for stored in await self.list(prefix, 1000)}


def pruner(database: Database, files: Files, owner: str = "test") -> Pruner:
    return Pruner(database, files, KEEP, owner)


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


async def old_task(
    database: Database,
    files: Files,
    *,
    ended: float | None = 60,
    made: float = 90,
    status: str = "COMPLETED",
    **values: Any,
) -> Task:
    """A task with a result and an event; one that has not `ended` waits."""
    task = await add(database, created_at=days_ago(made), **values)
    path = result_of(task)
    await files.put(path, b"picture", "image/png")
    if ended is not None:
        async with database.transaction() as session:
            row = await session.get_one(Task, task.id)
            row.status, row.completed_at, row.result = status, days_ago(ended), {"artifacts": [{"path": path}]}
    return task


def result_of(task: Task) -> str:
    return f"generations/{task.id}/1/0.png"


async def delivery(database: Database, task_id: UUID, status: str, *, ended: float = 60) -> None:
    async with database.transaction() as session:
        row = WebhookDelivery(
            id=uuid4(), task_id=task_id, url="http://x/", payload={}, status=status, next_attempt_at=days_ago(ended)
        )
        session.add(row)
        await session.flush()
        session.add(WebhookAttempt(delivery_id=row.id, duration_ms=1))


async def old_workflow(
    database: Database,
    files: Files,
    *,
    ended: float | None = 60,
    status: str = "COMPLETED",
    tasks: int = 2,
    **values: Any,
) -> tuple[Workflow, list[Task]]:
    """A workflow of one step with tasks of its own."""
    row = Workflow(
        id=uuid4(),
        name="w",
        status=status,
        origin_instance="test",
        created_at=days_ago(90),
        completed_at=None if ended is None else days_ago(ended),
        **{"config": {}, "input": {}, "taken": {}, **values},
    )
    made = [await old_task(database, files, workflow_id=str(row.id), step_id="draw") for _ in range(tasks)]
    async with database.transaction() as session:
        session.add(row)
        await session.flush()
        session.add(step_of(row, made))
        session.add(WorkflowEvent(workflow_id=row.id, type="workflow.status", status=status))
    return row, made


def step_of(workflow: Workflow, tasks: list[Task], **values: Any) -> WorkflowStep:
    return WorkflowStep(
        **{
            "id": uuid4(),
            "workflow_id": workflow.id,
            "position": 0,
            "step_id": "draw",
            "task_type": "GENERATION",
            "definition": {},
            "dependencies": [],
            "status": "COMPLETED",
            "task_ids": [str(task.id) for task in tasks],
            "result": {"outputs": [{"path": result_of(task)} for task in tasks]},
            **values,
        }
    )


async def old_training(database: Database, files: Files, *, ended: float = 60, **values: Any) -> Training:
    row = Training(
        **{
            "id": uuid4(),
            "tenant": "default",
            "status": "COMPLETED",
            "priority": 1,
            "spec": {},
            "request": {},
            "origin_instance": "test",
            "created_at": days_ago(90),
            "completed_at": days_ago(ended),
            **values,
        }
    )
    async with database.transaction() as session:
        session.add(row)
    for path in ("dataset/images/00000.png", "samples/step-000001/0.png", "run/checkpoint/weights"):
        await files.put(f"training/{row.id}/{path}", b"bytes", "application/octet-stream")
    return row


async def counts(database: Database) -> dict[str, int]:
    """The rows of each table that has any, but those that outlive what they count."""
    async with database.transaction() as session:
        tables = {
            name: await session.scalar(select(func.count()).select_from(table))
            for name, table in Base.metadata.tables.items()
            if not name.startswith(("work_", "metric_"))
        }
    return {name: count for name, count in tables.items() if count}


async def ids(database: Database, table: str) -> set[UUID]:
    async with database.transaction() as session:
        return set(await session.scalars(text(f"SELECT id FROM {table}")))  # noqa: S608
