"""Lists of tasks: the filters of the contract, newest first."""

from typing import Annotated, Any, ClassVar

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.paging import CURSOR, CursorText, Page, next_row, page_by_time
from compute.api.present import QUICKSTART_STATUS
from compute.api.status_words import StatusWords
from compute.db.pages import newest_first, rows_of
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
    listed: ClassVar[str] = "tasks"

    limit: WholeNumber = Field(default=100, ge=1, le=1000, description="At most this many tasks.")
    skip: WholeNumber = Field(default=0, ge=0, le=1_000_000, description="Leave out this many of the newest.")
    cursor: CursorText = CURSOR
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

    listed = "generation"

    workflow_id: Label | None = Field(default=None, description="Only tasks of this workflow.")


async def find(session: AsyncSession, filters: _Filters, **also: Any) -> Page[Task]:
    """Tasks that match, newest first, without those that were cleaned up.

    Raises:
        BadRequest: a cursor that is none of this list.
    """
    place = next_row(filters.listed, filters.cursor, skip=filters.skip)
    wanted = filters.model_dump(exclude={"limit", "skip", "status", "cursor"}, exclude_none=True) | also
    matching = select(Task).where(Task.deleted_at.is_(None)).filter_by(**wanted)
    if filters.status is not None:
        matching = matching.where(Task.status.in_(_STATUSES.meaning(filters.status)))
    one_more = filters.limit + 1
    rows = await rows_of(session, newest_first(matching, Task, place, skip=filters.skip, limit=one_more), one_more)
    return page_by_time(filters.listed, rows, filters.limit)


TaskQuery = Annotated[TaskFilters, Query()]
GenerationQuery = Annotated[GenerationFilters, Query()]
