"""Lists of workflows: the filters of the contract, newest first."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.paging import CURSOR, CursorText, Page, next_row, page_by_time
from compute.api.status_words import StatusWords
from compute.db.pages import newest_first, rows_of
from compute.db.tables import Workflow
from compute.schemas.enums import WorkflowStatus
from compute.schemas.parameters import Flag, Label, WholeNumber

__all__ = ["WorkflowQuery", "find_workflows"]


_STATUSES = StatusWords(WorkflowStatus, {status: status.lower() for status in WorkflowStatus})
WorkflowStatusWord = Annotated[str, *_STATUSES.annotations]


class WorkflowFilters(BaseModel):
    """The query of `GET /workflows/`."""

    limit: WholeNumber = Field(default=50, ge=1, le=200, description="At most this many, each with its steps.")
    skip: WholeNumber = Field(default=0, ge=0, le=1_000_000, description="Leave out this many of the newest.")
    cursor: CursorText = CURSOR
    status: WorkflowStatusWord | None = Field(
        default=None, description="Only workflows in this status, in the words of either dialect."
    )
    origin_instance: Label | None = Field(default=None, description="Only workflows from this installation.")
    origin_tenant_id: Label | None = Field(default=None, description="Only workflows of this tenant.")
    include_deleted: Flag = Field(default=False, description="Also those that were cleaned up.")


_LISTED = "workflows"


async def find_workflows(session: AsyncSession, filters: WorkflowFilters) -> tuple[Page[Workflow], int]:
    """The workflows that match, newest first, and how many there are on all pages.

    Raises:
        BadRequest: a cursor that is none of this list.
    """
    place = next_row(_LISTED, filters.cursor, skip=filters.skip)
    wanted = filters.model_dump(exclude={"limit", "skip", "include_deleted", "status", "cursor"}, exclude_none=True)
    matching = select(Workflow).filter_by(**wanted)
    if filters.status is not None:
        matching = matching.where(Workflow.status.in_(_STATUSES.meaning(filters.status)))
    if not filters.include_deleted:
        matching = matching.where(Workflow.deleted_at.is_(None))
    total = await session.scalar(select(func.count()).select_from(matching.subquery()))
    one_more = filters.limit + 1
    rows = await rows_of(session, newest_first(matching, Workflow, place, skip=filters.skip, limit=one_more), one_more)
    return page_by_time(_LISTED, rows, filters.limit), total or 0


WorkflowQuery = Annotated[WorkflowFilters, Query()]
