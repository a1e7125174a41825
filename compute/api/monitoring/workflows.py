"""The list of monitored workflows, and its filters."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field
from sqlalchemy import ColumnElement, and_
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.monitoring.lists import ListedRows, MonitoredFilters, MonitoredList, id_range, list_rows
from compute.api.monitoring.totals import summed
from compute.api.paging import other_tenant
from compute.api.workflows.queries import LISTING, STATUSES, WorkflowStatusWord
from compute.db.tables import Workflow
from compute.errors import Forbidden
from compute.monitoring.scope import Scope
from compute.monitoring.totals import count_workflows

__all__ = ["MonitoredWorkflowsQuery", "find_monitored_workflows"]

WorkflowSort = Literal["created_at", "started_at", "completed_at", "updated_at", "duration_ms", "name", "status"]


class MonitoredWorkflows(MonitoredFilters):
    """The query of `GET /monitoring/workflows`."""

    sort_by: WorkflowSort = Field(
        default="created_at",
        description="What the order is by. Only `created_at` has an end for any number of workflows.",
    )
    status: WorkflowStatusWord | None = Field(
        default=None, description="Only workflows in this status, in the words of either dialect."
    )
    search: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="Only workflows whose id begins so, in either spelling, or whose name does, in this case.",
    )


def _found_by(search: str) -> list[ColumnElement[bool]]:
    # Byte by byte, as the index has it.
    begins = (Workflow.name.bool_op("~>=~")(search), Workflow.name.bool_op("~<~")(f"{search}\U0010ffff"))
    by_name = and_(*begins, Workflow.deleted_at.is_(None))
    by_id = id_range(Workflow.id, search)
    return [by_name] if by_id is None else [by_name, by_id]


_LIST = MonitoredList(
    LISTING,
    "monitored workflows",
    [],
    {name: getattr(Workflow, name, None) for name in WorkflowSort.__args__}  # type: ignore[attr-defined]
    | {"duration_ms": Workflow.completed_at - Workflow.started_at},
    _found_by,
)


async def find_monitored_workflows(
    session: AsyncSession, asked: MonitoredWorkflows, tenant: str | None
) -> ListedRows[Workflow]:
    """The page that is asked for, without workflows that were cleaned up; with `tenant` of that tenant's alone.

    Raises:
        BadRequest: more would have to be looked through or sorted than is done at once.
        Forbidden: with `tenant` another one is asked for.
    """
    if tenant is not None and asked.origin_tenant_id not in (None, tenant):
        raise Forbidden(other_tenant("origin_tenant_id", tenant))
    asked = asked if tenant is None else asked.model_copy(update={"origin_tenant_id": tenant})
    names = ("origin_instance", "origin_zone", "origin_tenant_id")
    filters: dict[str, Any] = {name: (value,) for name in names if (value := getattr(asked, name)) is not None}
    if asked.status is not None:
        filters["status"] = STATUSES.meaning(asked.status)
    # The sums know all of these filters.
    scope = Scope(asked.origin_tenant_id, asked.origin_instance, asked.origin_zone)
    total = partial(summed, session, scope, partial(count_workflows, session, scope, filters.get("status")))
    return await list_rows(session, _LIST, asked, filters, asked.sort_by, total=total)


MonitoredWorkflowsQuery = Annotated[MonitoredWorkflows, Query()]
