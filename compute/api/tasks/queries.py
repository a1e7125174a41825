"""Lists of tasks: the filters of the contract, newest first."""

from typing import Annotated, Any, ClassVar

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.paging import CURSOR, SKIP, CursorText, Page, SkipNumber, page_by_time
from compute.api.status_words import StatusWords
from compute.api.tasks.presenter import QUICKSTART_STATUS
from compute.db.lists.pages import Listing, Partial
from compute.db.lists.walks import Heap
from compute.db.tables import Task, tasks
from compute.schemas.enums import TaskStatus, TaskType
from compute.schemas.rules.parameters import Label, WholeNumber
from compute.tasks.registry import find_kind
from compute.tasks.states import TERMINAL

__all__ = [
    "LISTING",
    "STATUSES",
    "GenerationQuery",
    "TaskQuery",
    "TaskStatusWord",
    "TaskTypeName",
    "find",
]


STATUSES = StatusWords(TaskStatus, QUICKSTART_STATUS)
TaskStatusWord = Annotated[str, *STATUSES.annotations]


def _named(value: Any) -> Any:
    """A type by any name that requests may use."""
    try:
        return find_kind(value).name
    except KeyError:
        return value


TaskTypeName = Annotated[TaskType, BeforeValidator(_named)]


class _Filters(BaseModel):
    listed: ClassVar[str] = "tasks"

    limit: WholeNumber = Field(default=100, ge=1, le=1000, description="At most this many tasks.")
    skip: SkipNumber = SKIP
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


_HEAPS = (
    Heap(tasks.READY, ("queue", "priority", "tenant", "created_at", "id"), also=tasks.LISTED),
    Heap(tasks.LEASED, ("queue", "tenant"), also=tasks.LISTED),
)
LISTING = Listing(
    Task,
    "tasks",
    (
        Partial("workflow_id", tasks.OF_WORKFLOW, also=tasks.LISTED),
        Partial("origin_tenant_id", tasks.OF_TENANT),
        Partial("status", tasks.ENDED, _HEAPS, frozenset(TERMINAL)),
        Partial("origin_zone", tasks.OF_ZONE, _HEAPS),
        Partial("task_type", tasks.ENDED, _HEAPS),
        Partial("origin_instance", tasks.ENDED, _HEAPS),
    ),
    also=tasks.LISTED,
    statuses=tuple(TaskStatus),
)


async def find(session: AsyncSession, filters: _Filters, **also: Any) -> Page[Task]:
    """Tasks that match, newest first, without those that were cleaned up.

    Raises:
        BadRequest: a cursor that is none of this list, or more would have to be looked through than is done at once.
    """
    wanted = filters.model_dump(exclude={"limit", "skip", "status", "cursor"}, exclude_none=True) | also
    statuses = {} if filters.status is None else {"status": STATUSES.meaning(filters.status)}
    asked = statuses | {name: (value,) for name, value in wanted.items()}
    return await page_by_time(session, LISTING, filters.listed, asked, filters)


TaskQuery = Annotated[TaskFilters, Query()]
GenerationQuery = Annotated[GenerationFilters, Query()]
