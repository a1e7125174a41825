"""Lists of tasks: the filters of the contract, newest first."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.present import QUICKSTART_STATUS
from compute.api.status_words import StatusWords
from compute.db.tables import Task
from compute.schemas.enums import TaskStatus, TaskType
from compute.schemas.parameters import Label, WholeNumber
from compute.tasks.registry import kind_named

__all__ = ["GenerationQuery", "TaskQuery", "find"]


_STATUSES = StatusWords(TaskStatus, QUICKSTART_STATUS)
TaskStatusWord = Annotated[str, *_STATUSES.annotations]


def _named(value: Any) -> Any:
    """A type by any name that requests may use."""
    try:
        return kind_named(value).name
    except KeyError:
        return value


TaskTypeName = Annotated[TaskType, BeforeValidator(_named)]


class _Filters(BaseModel):
    limit: WholeNumber = Field(default=100, ge=1, le=1000, description="At most this many tasks.")
    skip: WholeNumber = Field(default=0, ge=0, le=1_000_000, description="Leave out this many of the newest.")
    status: TaskStatusWord | None = Field(
        default=None, description="Only tasks in this status, in the words of either dialect."
    )
    origin_instance: Label | None = Field(default=None, description="Only tasks from this installation.")
    origin_zone: Label | None = Field(default=None, description="Only tasks from this zone.")
    origin_tenant_id: Label | None = Field(default=None, description="Only tasks of this tenant.")


class TaskFilters(_Filters):
    """The query of `GET /tasks/`."""

    task_type: TaskTypeName | None = Field(default=None, description="Only tasks of this type.")


class GenerationFilters(_Filters):
    """The query of `GET /tasks/generation`."""

    workflow_id: Label | None = Field(default=None, description="Only tasks of this workflow.")


async def find(session: AsyncSession, filters: _Filters, **also: Any) -> list[Task]:
    """Tasks that match, newest first, without those that were cleaned up."""
    wanted = filters.model_dump(exclude={"limit", "skip", "status"}, exclude_none=True) | also
    matching = select(Task).where(Task.deleted_at.is_(None)).filter_by(**wanted)
    if filters.status is not None:
        matching = matching.where(Task.status.in_(_STATUSES.meaning(filters.status)))
    rows = await session.scalars(
        matching.order_by(Task.created_at.desc(), Task.id.desc()).offset(filters.skip).limit(filters.limit)
    )
    return list(rows)


TaskQuery = Annotated[TaskFilters, Query()]
GenerationQuery = Annotated[GenerationFilters, Query()]
