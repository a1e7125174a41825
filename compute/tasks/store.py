"""Every write to a task: create, claim, start, heartbeat, settle, retry, cancel.

Each function is one or two statements in the caller's transaction, guarded by the transition table, and writes
the event row beside the change. A worker's writes carry its `Lease`; when the fence has moved on they change
nothing and say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, and_, func, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Task
from compute.errors import Conflict, NotFound
from compute.events.outbox import record
from compute.schemas.enums import ErrorCategory, EventType, TaskStatus
from compute.tasks.states import LEASED, sources

__all__ = [
    "Lease",
    "cancel",
    "claim",
    "create",
    "end",
    "expired",
    "fail",
    "get",
    "heartbeat",
    "release",
    "settle",
    "start",
]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to report on one task until the fence moves."""

    task_id: UUID
    fence: int


async def create(session: AsyncSession, task: Task) -> Task:
    """Store an accepted task as PENDING, with its TASK_CREATED event."""
    task.status = TaskStatus.PENDING
    session.add(task)
    await session.flush()
    await record(session, [task], EventType.TASK_CREATED)
    return task


async def get(session: AsyncSession, task_id: UUID) -> Task:
    """The row of `task_id`.

    Raises:
        NotFound: there is none.
    """
    task = await session.get(Task, task_id)
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


async def claim(session: AsyncSession, chosen: CTE, *, owner: str, lease_seconds: float) -> list[Task]:
    """Take the rows that `chosen` (a CTE with an `id` column, locked) names: PENDING → QUEUED under a lease."""
    rows = await session.scalars(
        update(Task)
        .where(Task.id == chosen.c.id, Task.status == TaskStatus.PENDING)
        .values(
            status=TaskStatus.QUEUED,
            fence=Task.fence + 1,
            lease_owner=owner,
            lease_expires_at=_in(lease_seconds),
            updated_at=func.clock_timestamp(),
        )
        .returning(Task),
        execution_options={"synchronize_session": False},
    )
    tasks = sorted(rows, key=lambda task: (-task.priority, task.created_at))
    await record(session, tasks, EventType.TASK_STATUS)
    return tasks


async def start(session: AsyncSession, lease: Lease, *, executor: str, executor_type: str) -> bool:
    """QUEUED → EXECUTING: a replica has begun. False when the lease is lost."""
    return await _move(
        session,
        lease,
        TaskStatus.EXECUTING,
        started_at=func.coalesce(Task.started_at, func.clock_timestamp()),
        executor_type=executor_type,
        executor_instance=executor,
    )


async def heartbeat(
    session: AsyncSession, progress: Sequence[tuple[Lease, float]], *, lease_seconds: float
) -> set[Lease]:
    """Renew leases and write progress (percent) in one statement. Returns the leases that still hold."""
    if not progress:
        return set()
    beats = text(
        "SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:percents AS float8[]))"
        " AS beat(id, fence, percent)"
    ).columns(Task.id, Task.fence, Task.progress.label("percent"))
    beat = beats.bindparams(
        ids=[lease.task_id for lease, _ in progress],
        fences=[lease.fence for lease, _ in progress],
        percents=[percent for _, percent in progress],
    ).cte("beat")
    rows = await session.execute(
        update(Task)
        .where(Task.id == beat.c.id, Task.fence == beat.c.fence, Task.status.in_(LEASED))
        .values(
            lease_expires_at=_in(lease_seconds),
            progress=func.greatest(Task.progress, beat.c.percent),
            updated_at=func.clock_timestamp(),
        )
        .returning(Task.id, Task.fence),
        execution_options={"synchronize_session": False},
    )
    return {Lease(task_id, fence) for task_id, fence in rows}


async def settle(session: AsyncSession, lease: Lease, result: dict[str, Any]) -> bool:
    """EXECUTING → COMPLETED with its result. False when the lease is lost: the answer came too late."""
    return await _move(session, lease, TaskStatus.COMPLETED, result=result, progress=100.0, **_ended())


async def fail(session: AsyncSession, lease: Lease, category: ErrorCategory, message: str) -> bool:
    """→ FAILED. False when the lease is lost."""
    return await _move(
        session, lease, TaskStatus.FAILED, error_category=category, errors=_appended(message), **_ended()
    )


async def release(
    session: AsyncSession, lease: Lease, *, delay_seconds: float = 0.0, error: tuple[ErrorCategory, str] | None = None
) -> bool:
    """Back to PENDING. With `error` it counts as a retry; without, the attempt never happened."""
    values: dict[str, Any] = {"run_after": _in(delay_seconds), "progress": 0.0, "lease_owner": None}
    if error is not None:
        category, message = error
        values |= {
            "retry_count": Task.retry_count + 1,
            "error_category": category,
            "errors": _appended(message),
        }
    return await _move(session, lease, TaskStatus.PENDING, lease_expires_at=None, **values)


async def cancel(session: AsyncSession, task_id: UUID) -> Task:
    """End a task as CANCELLED at once. The fence moves, so whatever its worker still reports is dropped.

    Raises:
        NotFound: there is no such task.
        Conflict: it has already ended.
    """
    return await end(session, task_id, TaskStatus.CANCELLED, error_category=ErrorCategory.CANCELLED, errors=Task.errors)


async def end(session: AsyncSession, task_id: UUID, status: TaskStatus, **values: Any) -> Task:
    """End a task from outside, without its worker's lease: cancel, or a client's own verdict.

    Raises:
        NotFound: there is no such task.
        Conflict: the transition table forbids it.
    """
    task: Task | None = await session.scalar(
        update(Task)
        .where(Task.id == task_id, Task.status.in_(sources(status)))
        .values(status=status, fence=Task.fence + 1, updated_at=func.clock_timestamp(), **(_ended() | values))
        .returning(Task),
        execution_options={"populate_existing": True, "synchronize_session": False},
    )
    if task is None:
        present = await get(session, task_id)
        raise Conflict(f"Task {task_id} is {present.status} and cannot become {status}.")
    await record(session, [task], EventType.TASK_STATUS)
    return task


async def expired(session: AsyncSession, limit: int) -> list[Task]:
    """Leased tasks whose lease has run out, locked until the transaction ends."""
    rows = await session.scalars(
        select(Task)
        .where(Task.status.in_(LEASED), or_(Task.lease_expires_at.is_(None), Task.lease_expires_at < func.now()))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(rows)


async def _move(session: AsyncSession, lease: Lease, target: TaskStatus, **values: Any) -> bool:
    task = await session.scalar(
        update(Task)
        .where(and_(Task.id == lease.task_id, Task.fence == lease.fence, Task.status.in_(sources(target))))
        .values(status=target, updated_at=func.clock_timestamp(), **values)
        .returning(Task),
        execution_options={"populate_existing": True, "synchronize_session": False},
    )
    if task is None:
        return False
    await record(session, [task], EventType.TASK_STATUS)
    return True


def _ended() -> dict[str, Any]:
    return {"completed_at": func.clock_timestamp(), "lease_owner": None, "lease_expires_at": None}


def _in(seconds: float) -> Any:
    return func.clock_timestamp() + timedelta(seconds=seconds)


def _appended(message: str) -> Any:
    return Task.errors.op("||")(literal([message], JSONB))
