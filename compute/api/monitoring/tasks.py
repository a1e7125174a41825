"""The list of monitored tasks, and its filters."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from compute.api.monitoring.lists import ListedRows, MonitoredFilters, MonitoredList, id_range, list_rows
from compute.api.monitoring.times import duration_ms
from compute.api.monitoring.totals import summed
from compute.api.paging import other_tenant
from compute.api.tasks.queries import LISTING, STATUSES, TaskStatusWord, TaskTypeName
from compute.db.lists.pages import Partial
from compute.db.tables import Task
from compute.db.tables import tasks as tables
from compute.errors import Forbidden
from compute.monitoring.scope import Scope
from compute.monitoring.totals import count_tasks
from compute.schemas.enums import ProviderType
from compute.schemas.monitoring.tasks import TaskListItem

__all__ = ["MonitoredTasksQuery", "find_tasks", "task_item"]

TaskSort = Literal[
    "created_at",
    "started_at",
    "completed_at",
    "updated_at",
    "duration_ms",
    "progress",
    "priority",
    "status",
    "task_type",
]
_FROM_ROW = (
    "id",
    "task_type",
    "provider_type",
    "status",
    "progress",
    "origin_instance",
    "origin_zone",
    "origin_tenant_id",
    "created_at",
    "started_at",
    "completed_at",
    "priority",
    "workflow_id",
    "executor_instance",
)


class MonitoredTasks(MonitoredFilters):
    """The query of `GET /monitoring/tasks`."""

    sort_by: TaskSort = Field(
        default="created_at", description="What the order is by. Only `created_at` has an end for any number of tasks."
    )
    status: TaskStatusWord | None = Field(
        default=None, description="Only tasks in this status, in the words of either dialect."
    )
    task_type: TaskTypeName | None = Field(default=None, description="Only tasks of this type.")
    provider_type: ProviderType | None = Field(default=None, description="Only tasks of this provider.")
    search: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Only tasks whose id begins so, in either spelling, with or without dashes."
    )


def _found_by(search: str) -> list[ColumnElement[bool]]:
    found = id_range(Task.id, search)
    return [] if found is None else [found]


_LIST = MonitoredList(
    LISTING,
    "monitored tasks",
    [load_only(*(getattr(Task, name) for name in (*_FROM_ROW, "queue", "errors", "updated_at")))],
    {name: getattr(Task, name, None) for name in TaskSort.__args__}  # type: ignore[attr-defined]
    | {"duration_ms": Task.completed_at - Task.started_at},
    _found_by,
)


_OF_PROVIDERS = replace(
    _LIST,
    listing=replace(LISTING, columns=(*LISTING.columns, Partial("provider_type", tables.OF_PROVIDER))),
)
"""The same where a provider elsewhere is asked for: most tasks are LOCAL, and there is no index of those."""


async def find_tasks(session: AsyncSession, asked: MonitoredTasks, tenant: str | None) -> ListedRows[Task]:
    """The page that is asked for, without tasks that were cleaned up; with `tenant` of that tenant's alone.

    Raises:
        BadRequest: more would have to be looked through or sorted than is done at once.
        Forbidden: with `tenant` another one is asked for.
    """
    if tenant is not None and asked.origin_tenant_id not in (None, tenant):
        raise Forbidden(other_tenant("origin_tenant_id", tenant))
    asked = asked if tenant is None else asked.model_copy(update={"origin_tenant_id": tenant})
    names = ("origin_instance", "origin_zone", "origin_tenant_id", "task_type", "provider_type")
    filters: dict[str, Any] = {name: (value,) for name in names if (value := getattr(asked, name)) is not None}
    if asked.status is not None:
        filters["status"] = STATUSES.meaning(asked.status)
    # The sums know all of these filters.
    scope = Scope(asked.origin_tenant_id, asked.origin_instance, asked.origin_zone)
    count = partial(count_tasks, session, scope, filters.get("status"), asked.task_type, asked.provider_type)
    total = partial(summed, session, scope, count)
    elsewhere = asked.provider_type not in (None, ProviderType.LOCAL)
    listed = _OF_PROVIDERS if elsewhere else _LIST
    return await list_rows(session, listed, asked, filters, asked.sort_by, total=total)


def task_item(task: Task) -> TaskListItem:
    """A task as the list shows it."""
    return TaskListItem(
        **{name: getattr(task, name) for name in _FROM_ROW},
        queue_name=task.queue,
        duration_ms=duration_ms(task.started_at, task.completed_at),
        has_error=bool(task.errors),
    )


MonitoredTasksQuery = Annotated[MonitoredTasks, Query()]
