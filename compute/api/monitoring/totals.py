"""Totals of tasks and workflows, also from an installation or zone that has no sums of its own.

Those are the totals of the latest rows that are from there, found as a list finds them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.tasks.queries import LISTING as TASKS
from compute.api.workflows.queries import LISTING as WORKFLOWS
from compute.db.keys import one_of
from compute.db.lists.pages import Filters, begin_walking, latest_of
from compute.db.tables import Task, Workflow, WorkflowStep
from compute.monitoring.scope import Scope, has_sums
from compute.monitoring.totals import TaskTotals, WorkflowTotals, task_totals, workflow_totals
from compute.schemas.enums import TaskStatus, WorkflowStatus

__all__ = ["summed", "totals_of_tasks", "totals_of_workflows"]

_LATEST = 5_000
"""So many rows are counted where there are no sums."""


async def summed(session: AsyncSession, scope: Scope, count: Callable[[], Awaitable[int]]) -> int | None:
    """What `count` tells from the sums, None if they do not know this scope. The transaction has one view of all."""
    return await count() if await has_sums(session, scope) else None


async def totals_of_tasks(session: AsyncSession, scope: Scope) -> tuple[TaskTotals, bool]:
    """Those of a scope, and whether they are of all its tasks. It must be the first in its transaction."""
    if not await _looked_up(session, scope):
        return await task_totals(session, scope), True
    ids, exact = await latest_of(session, TASKS, _filters(scope), _LATEST)
    totals = TaskTotals(Counter({str(status): 0 for status in TaskStatus}))
    columns = (Task.status, Task.task_type, func.coalesce(Task.provider_type, "LOCAL"))
    for status, type_, provider, number, hour, day in await _grouped(session, Task, columns, ids):
        totals.by_status[status] += number
        totals.by_type[type_] += number
        totals.by_provider[provider] += number
        totals.created_last_hour += hour
        totals.created_last_day += day
    return totals, exact


async def totals_of_workflows(session: AsyncSession, scope: Scope) -> tuple[WorkflowTotals, bool]:
    """The same of workflows."""
    if not await _looked_up(session, scope):
        return await workflow_totals(session, scope), True
    ids, exact = await latest_of(session, WORKFLOWS, _filters(scope), _LATEST)
    totals = WorkflowTotals(Counter({str(status): 0 for status in WorkflowStatus}))
    for status, number, hour, day in await _grouped(session, Workflow, (Workflow.status,), ids):
        totals.by_status[status] += number
        totals.created_last_hour += hour
        totals.created_last_day += day
    steps = select(func.count()).select_from(WorkflowStep).where(one_of(WorkflowStep.workflow_id, ids))
    totals.steps = await session.scalar(steps) or 0
    return totals, exact


async def _looked_up(session: AsyncSession, scope: Scope) -> bool:
    """Whether the rows have to be looked at. All that follows a question for labels has one view."""
    if not scope.labelled:
        return False
    await begin_walking(session)
    return not await has_sums(session, scope)


def _filters(scope: Scope) -> Filters:
    asked = {
        "origin_tenant_id": scope.tenant,
        "origin_instance": scope.origin_instance,
        "origin_zone": scope.origin_zone,
    }
    return {name: (value,) for name, value in asked.items() if value is not None}


async def _grouped(session: AsyncSession, table: Any, columns: Sequence[Any], ids: Sequence[UUID]) -> Sequence[Any]:
    """By these columns: how many rows there are, and were created within the last hour and day, to the minute."""
    minute = "date_trunc('minute', now(), 'UTC')"
    since = [f"{minute} - interval '{span}'" for span in ("1 hour", "24 hours")]
    lately = [
        func.count().filter(table.created_at >= literal_column(begin, DateTime(timezone=True))) for begin in since
    ]
    wanted = select(*columns, func.count(), *lately).where(one_of(table.id, ids)).group_by(*columns)
    return (await session.execute(wanted)).all()
